"""What transform writes: a model that predicts the same, as a file and as a folder; refusals in one line."""
import json
import struct

import harness
import tiny_model


class Transform(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_folder(self.folder / "model")
        self.text = self.folder / "text"
        self.text.write_text("the quick brown fox " * 200)

    def divergence(self, out):
        return self.fewbits("eval", out, "--against", self.model, "--text", self.text, "--chunks", 1,
                            "--json").facts["kl_mean"]

    def test_predicts_the_same(self):
        every = ("--rotate", "both", "--equalize", "--fuse-norms")
        smooth = ("--smooth", 0.5, "--text", self.text, "--samples", 1, "--sample-length", 64)
        for name, options in (("every", every), ("smooth", smooth)):
            for out in (self.folder / f"{name}.gguf", self.folder / name):
                with self.subTest(out.name):
                    facts = self.fewbits("transform", self.model, out, *options, "--type", "F32", "--json").facts
                    self.assertGreater(facts["bytes_out"], facts["bytes_in"])
                    self.assertLess(self.divergence(out), 1e-5)
                    self.fewbits("inspect", out, "--verify", "--source", self.model)

    def test_folders_keep_their_type_and_config(self):
        out = self.folder / "out"
        self.fewbits("transform", self.model, out, "--rotate", "both")
        before, after = (json.loads((path / "config.json").read_text()) for path in (self.model, out))
        self.assertEqual(before, after)  # its norms have even gains, so the output can stay tied
        formats = {t["format"] for t in self.fewbits("inspect", out, "--json").facts["tensors"]}
        self.assertEqual(formats, {t["format"] for t in self.fewbits("inspect", self.model, "--json").facts["tensors"]})
        self.fewbits("quantize", out, self.folder / "out.gguf", "--to", "Q4_0")

    def test_bytes_depend_on_the_seed_alone(self):
        outs = []
        for seed, threads in ((1, 1), (1, 3), (2, 1)):
            outs.append(self.folder / f"{seed}-{threads}.gguf")
            self.fewbits("transform", self.model, outs[-1], "--rotate", "both", "--seed", seed, "--threads", threads)
        one, same, other = (out.read_bytes() for out in outs)
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_quantize_makes_them_on_the_way(self):
        """What quantize writes is what it would write of the transformed model; its values there are floats."""
        smooth = ("--samples", 2, "--sample-length", 64)
        for options, text in ((("--rotate", "both", "--equalize", "--seed", 3), ()),
                              (("--smooth", 0.5), ("--calibrate", self.text, *smooth, "--effort", 0))):
            between = self.folder / "between.gguf"
            self.fewbits("transform", self.model, between, *options, "--type", "F32",
                         *(("--text", self.text, *smooth) if text else ()))
            hashes = []
            for model, transforms in ((between, ()), (self.model, (*options, *text))):
                out = self.folder / "out.gguf"
                self.fewbits("quantize", model, out, "--to", "Q4_0", *transforms)
                certificate = self.fewbits("inspect", out, "--json").facts["certificate"]
                hashes.append(certificate["data_sha256"])
            self.assertEqual(*hashes)
            self.assertIn("transform", certificate["recipe"])

    def test_quantized_folders_of_transformed_models(self):
        text = ("--calibrate", self.text, "--samples", 2, "--sample-length", 64)
        for number, options in enumerate((("--rotate", "both"), ("--smooth", 0.5, *text),
                                          ("--smooth", 0.5, "--effort", 0, *text))):
            with self.subTest(options):
                out = self.folder / f"out{number}"
                self.fewbits("quantize", self.model, out, "--to", "int8_channel", *options)
                self.assertLess(self.divergence(out), 1e-2)
                self.fewbits("inspect", out, "--verify", "--source", self.model)

    def test_an_output_of_its_own_is_said(self):
        uneven = tiny_model.TinyModel()
        uneven.tensors["output_norm.weight"][2] = struct.pack("<2f", 1, 2) * (uneven.hidden // 2)
        model = uneven.write_folder(self.folder / "uneven")
        out = self.folder / "out"
        self.fewbits("quantize", model, out, "--to", "int8_channel", "--rotate", "residual")
        self.assertFalse(json.loads((out / "config.json").read_text())["tie_word_embeddings"])
        facts = self.fewbits("eval", out, "--against", model, "--text", self.text, "--chunks", 1, "--json").facts
        self.assertLess(facts["kl_mean"], 1e-2)

    def test_refusals_of_quantize(self):
        quantize = ("quantize", self.model, self.folder / "out.gguf", "--to", "Q4_0")
        self.refused(*quantize, "--smooth", 0.5, says="--calibrate")
        self.refused(*quantize, "--rotate", "heads", "--imatrix", self.text, says="as it is stored")

    def test_refusals(self):
        out = self.folder / "out.gguf"
        self.refused("transform", self.model, out, says="nothing to do")
        self.refused("transform", self.model, out, "--smooth", 0.5, says="--text")
        self.refused("transform", self.model, out, "--smooth", 0.5, "--equalize", "--text", self.text,
                     says="as it is stored")
        self.refused("transform", self.model, out, "--equalize", "--type", "Q4_0", says="--type")
        self.refused("transform", self.model, out, "--rotate", "both", "--memory", "1K", says="--memory")
        self.refused("transform", self.model, self.model, "--equalize", says="is there already")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    harness.main()
