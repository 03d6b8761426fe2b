"""What quantize writes: every mix, the same bytes for any thread count and source, in little memory."""
import hashlib
import json
import re
import subprocess
import sys

import harness
import tiny_model


NEED_STATISTICS = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS"}


class Quantize(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")

    def quantized(self, source, to, *options):
        out = self.folder / "out.gguf"
        self.fewbits("quantize", source, out, "--to", to, *options)
        data = out.read_bytes()
        out.unlink()
        return data

    def statistics(self):
        out = self.folder / "statistics.gguf"
        if not out.exists():
            text = self.folder / "text.txt"
            text.write_text("Seven wise men measured the speed of light. " * 20)
            self.fewbits("calibrate", self.model, out, "--text", text, "--samples", 1, "--sample-length", 32)
        return out

    def mixes(self):
        """The names that an unknown one is answered with."""
        line = self.refused("quantize", self.model, self.folder / "out.gguf", "--to", "no-such-mix")
        return re.findall(r"[\w]+", line.split("known:")[1])

    def test_every_mix_gives_a_file_that_reads_back(self):
        mixes = self.mixes()
        self.assertLessEqual({"F16", "Q8_0", "Q4_0", "Q2_K", "Q4_K_M", "Q6_K", "IQ4_XS"}, set(mixes))
        for mix in mixes:
            with self.subTest(mix):
                out = self.folder / f"{mix}.gguf"
                if mix in NEED_STATISTICS:
                    self.refused("quantize", self.model, out, "--to", mix, says=["--imatrix"])
                weights = ("--imatrix", self.statistics()) if mix in NEED_STATISTICS else ()
                self.fewbits("quantize", self.model, out, "--to", mix, *weights)
                facts = self.fewbits("inspect", out, "--json").facts
                self.assertEqual(facts["parameters"], 1247488)

    def test_statistics_without_a_matrix_that_needs_them_are_refused(self):
        whole, part = self.statistics().read_bytes(), self.folder / "part.gguf"
        name = b"blk.0.ffn_down.weight"
        part.write_bytes(whole.replace(name, b"blk.9.ffn_down.weight"))
        self.refused("quantize", self.model, self.folder / "out.gguf", "--to", "IQ2_XXS", "--imatrix", part,
                     says=[name.decode(), "--tensor"])

    def test_bytes_depend_on_no_thread_count(self):
        for mix in ("Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"):
            with self.subTest(mix):
                one = self.quantized(self.model, mix, "--threads", 1)
                self.assertEqual(one, self.quantized(self.model, mix, "--threads", 2))
                self.assertEqual(one, self.quantized(self.model, mix, "--threads", 7))

    def test_folder_and_gguf_of_one_model_give_the_same_tensors(self):
        model = tiny_model.TinyModel()
        folder = model.write_folder(self.folder / "one/model")
        shards = model.write_folder(self.folder / "three/model", shards=3)
        outs = []
        for i, source in enumerate((self.model, folder, shards)):
            out = self.folder / f"{i}.gguf"
            self.fewbits("quantize", source, out, "--to", "Q4_K_M")
            outs.append(tiny_model.GgufReader(out))
        for other in outs[1:]:
            self.assertEqual(outs[0].tensors, other.tensors)
            self.assertEqual(outs[0].data(), other.data())
        for out in outs:
            out.metadata.pop("fewbits.certificate")  # names the files of the source
        self.assertEqual(outs[1].metadata, outs[2].metadata)

    def test_sixteen_bits_give_back_the_source(self):
        out = self.folder / "f16.gguf"
        self.fewbits("quantize", self.model, out, "--to", "F16")
        source, copy = tiny_model.GgufReader(self.model), tiny_model.GgufReader(out)
        self.assertEqual(source.tensors, copy.tensors)
        self.assertEqual(source.data(), copy.data())

    def test_metadata_is_kept(self):
        model = tiny_model.TinyModel()
        model.metadata["general.license"] = (tiny_model.STRING, "apache-2.0")
        model.metadata["someone.else"] = (tiny_model.ARRAY, (tiny_model.INT32, [3, 1, 2]))
        model.write_gguf(self.model)
        out = self.folder / "out.gguf"
        self.fewbits("quantize", self.model, out, "--to", "Q8_0")
        source, copy = tiny_model.GgufReader(self.model).metadata, tiny_model.GgufReader(out).metadata
        for key in set(source) - {"general.file_type"}:
            self.assertEqual(copy[key], source[key], key)

    def test_quantizing_twice_warns(self):
        once, twice = self.folder / "once.gguf", self.folder / "twice.gguf"
        self.assertNotIn("warning", self.fewbits("quantize", self.model, once, "--to", "Q4_0").stderr)
        self.assertIn("warning", self.fewbits("quantize", once, twice, "--to", "Q8_0").stderr)

    def test_formats_of_single_tensors(self):
        out = self.folder / "out.gguf"
        self.fewbits("quantize", self.model, out, "--to", "Q4_0", "--tensor", "blk.0.ffn_*=Q8_0",
                     "--tensor", "blk.0.ffn_up*=F16", "--embedding", "Q6_K")
        formats = {t["name"]: t["format"] for t in self.fewbits("inspect", out, "--json").facts["tensors"]}
        self.assertEqual(formats["blk.0.ffn_gate.weight"], "Q8_0")
        self.assertEqual(formats["blk.0.ffn_up.weight"], "F16")
        self.assertEqual(formats["blk.1.ffn_up.weight"], "Q4_0")
        self.assertEqual(formats["token_embd.weight"], "Q6_K")

    def test_an_older_file_is_replaced(self):
        out = self.folder / "out.gguf"
        out.write_bytes(b"old")
        self.fewbits("quantize", self.model, out, "--to", "Q8_0")
        self.assertEqual(self.fewbits("inspect", out, "--json").facts["architecture"], "llama")
        self.assertEqual(self.files(), ["out.gguf", "tiny.gguf"])


class Size(harness.Case):
    """--size: formats by what each matrix costs in predictions."""

    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.text = self.folder / "text.txt"
        self.text.write_text("the thin thing in the inn. " * 200)
        self.out = self.folder / "out.gguf"

    def quantized(self, *size):
        self.fewbits("quantize", self.model, self.out, *size, "--calibrate", self.text, "--samples", 2,
                     "--sample-length", 64)
        return self.out.stat().st_size

    def test_the_file_is_as_large_as_it_may_be(self):
        for wanted in (700_000, 900_000):
            size = self.quantized("--size", f"{wanted // 1000}K")
            self.assertLessEqual(size, wanted)
            self.assertGreater(size, 0.93 * wanted)

    def test_bits_per_weight_count_every_byte(self):
        size = self.quantized("--to", "5.5bpw")
        self.assertLessEqual(size, 5.5 / 8 * 1247488)

    def test_sensitivities_measured_once_serve_every_size(self):
        report = self.folder / "report.json"
        table = self.fewbits("calibrate", self.model, report, "--sensitivity", "--text", self.text, "--samples", 2,
                             "--sample-length", 64).stdout
        self.assertIn("blk.1.ffn_down.weight", table)
        by_hand = self.quantized("--size", "800K")
        self.fewbits("quantize", self.model, self.out, "--size", "800K", "--sensitivity", report)
        self.assertLessEqual(self.out.stat().st_size, 800_000)
        self.assertAlmostEqual(self.out.stat().st_size, by_hand, delta=4096)
        other = tiny_model.TinyModel(ffn=256).write_gguf(self.folder / "other.gguf")
        self.refused("quantize", other, self.out, "--size", "800K", "--sensitivity", report, says=["another model"])
        self.refused("quantize", self.model, self.out, "--to", "Q4_0", "--sensitivity", report, says=["with a size"])

    def test_statistics_of_another_model_are_refused(self):
        statistics = self.folder / "importance.gguf"
        self.fewbits("calibrate", self.model, statistics, "--text", self.text, "--samples", 2, "--sample-length", 64)
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--imatrix", statistics)
        other = tiny_model.TinyModel(ffn=256).write_gguf(self.folder / "other.gguf")
        self.refused("quantize", other, self.out, "--to", "Q4_0", "--imatrix", statistics, says=["another model"])

    def test_statistics_may_be_named_behind_the_texts(self):
        first, last = self.folder / "first.gguf", self.folder / "last.gguf"
        few = ("--samples", 2, "--sample-length", 64)
        self.fewbits("calibrate", self.model, first, "--text", self.text, *few)
        self.fewbits("calibrate", self.model, *few, "--text", self.text, last)
        self.assertEqual(first.read_bytes(), last.read_bytes())
        self.refused("calibrate", self.model, *few, "--text", self.text, says=["out is required"])

    def test_what_cannot_be_is_said_at_once(self):
        calibrate = ("--calibrate", self.text)
        self.refused("quantize", self.model, self.out, "--size", "100K", *calibrate, "--sample-length", 64,
                     says=["smallest", "more than"])
        self.refused("quantize", self.model, self.out, "--size", "5x", *calibrate, says=["5x", "95M"])
        self.refused("quantize", self.model, self.out, "--size", "900K", says=["--calibrate"])
        self.refused("quantize", self.model, self.out, says=["--to", "--size"])


class Certificate(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.out = self.folder / "out.gguf"

    def certificate(self, *options):
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", *options)
        return self.fewbits("inspect", self.out, "--json").facts.get("certificate")

    def test_says_what_the_file_was_made_from_and_how(self):
        certificate = self.certificate("--tensor", "*down*=Q8_0")
        source = self.model.read_bytes()
        self.assertEqual(certificate["source"], [{"name": "tiny.gguf", "bytes": len(source),
                                                  "sha256": hashlib.sha256(source).hexdigest()}])
        self.assertEqual(certificate["recipe"], {"to": "Q4_0", "search": "best", "tensor": ["*down*=Q8_0"]})
        facts = self.fewbits("inspect", self.out, "--json").facts
        self.assertEqual([tensor["format"] for tensor in certificate["tensors"]],
                         [tensor["format"] for tensor in facts["tensors"]])

    def test_can_be_left_out(self):
        self.assertIsNone(self.certificate("--no-certificate"))

    def test_of_the_source_is_not_handed_on(self):
        self.certificate()
        again = self.folder / "again.gguf"
        self.fewbits("quantize", self.out, again, "--to", "Q8_0")
        self.assertEqual(self.fewbits("inspect", again, "--json").facts["certificate"]["recipe"]["to"], "Q8_0")

    def test_measures_the_loss_on_a_text(self):
        text = self.folder / "text.txt"
        text.write_text("the thin thing in the inn. " * 200)
        measured = self.certificate("--certify", text)["measured"]
        facts = self.fewbits("eval", self.out, "--against", self.model, "--text", text, "--json").facts
        windows = facts.pop("kl_windows")
        self.assertAlmostEqual(sum(windows) / facts["windows"], facts["kl_mean"])
        self.assertEqual({key: measured[key] for key in facts}, facts)

    def test_text_that_the_model_was_calibrated_on_is_known_again(self):
        text, other = self.folder / "text.txt", self.folder / "other.txt"
        text.write_text(" ".join(f"{number * 7919 % 10007} and" for number in range(400)))
        other.write_text(" ".join(f"{number * 7907 % 10009} or" for number in range(400)))
        calibrated = "--calibrate", text, "--samples", 2, "--sample-length", 32
        result = self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", *calibrated, "--certify", text)
        self.assertIn("is calibrated on this text", result.stderr)
        longer = self.folder / "longer.txt"
        longer.write_text(other.read_text() + text.read_text())
        self.assertIn("is calibrated on this text", self.fewbits("eval", self.out, "--text", longer).stderr)
        self.assertNotIn("calibrated", self.fewbits("eval", self.out, "--text", other).stderr)

    def test_verify_finds_one_changed_bit_and_another_source(self):
        self.certificate()
        facts = self.fewbits("inspect", self.out, "--verify", "--source", self.model, "--json").facts
        self.assertTrue(facts["verified"])
        other = tiny_model.TinyModel().write_gguf(self.folder / "other.gguf")
        self.refused("inspect", self.out, "--verify", "--source", other, says=["tiny.gguf"])
        data = bytearray(self.out.read_bytes())
        data[-100] ^= 1
        self.out.write_bytes(data)
        self.refused("inspect", self.out, "--verify", says=["certified"])


class Memory(harness.Case):
    def test_peak_does_not_grow_with_the_model(self):
        if harness.SANITIZED:
            self.skipTest("sanitizers need memory of their own")
        # 44 MB and 353 MB of weights of the same widths: what lies in memory is a band of rows.
        peaks = [self.peak(layers) for layers in (2, 16)]
        self.assertLess(peaks[1], 150e6)
        self.assertLess(peaks[1], 1.2 * peaks[0] + 10e6)

    def peak(self, layers):
        model = self.folder / "model.gguf"
        subprocess.run([sys.executable, tiny_model.__file__, model, str(layers)], check=True)
        facts = self.fewbits("quantize", model, self.folder / "out.gguf", "--to", "Q8_0", "--json").facts
        return facts["peak_memory_bytes"]

    def test_peak_is_not_that_of_the_process_that_started_it(self):
        if harness.SANITIZED:
            self.skipTest("sanitizers need memory of their own")
        large = b"1" * 500_000_000  # resident when fewbits starts, and Linux hands the mark on
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        facts = self.fewbits("quantize", model, self.folder / "out.gguf", "--to", "Q8_0", "--json").facts
        self.assertLess(facts["peak_memory_bytes"], len(large) / 2)


    def test_where_memory_is_short_matrices_aim_at_weights(self):
        if harness.SANITIZED:
            self.skipTest("sanitizers need memory of their own")
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        text = self.folder / "text"
        text.write_text("the quick brown fox " * 2000)
        command = ("quantize", model, self.folder / "out.gguf", "--to", "Q4_0", "--calibrate", text, "--samples", 8,
                   "--dry-run")
        least = self.fewbits(*command, "--aim", "weights", "--memory", "1M", "--json").facts["estimate"]["memory_bytes"]
        result = self.fewbits(*command, "--memory", least + 100_000)
        self.assertIn("--aim weights", result.stderr)


class Reference(harness.Case):
    """stories260K, a model that really learned something."""

    TEXT = "text-misc/tinystories_sample.txt"

    def test_loss_grows_as_bits_shrink(self):
        model, text = harness.shared("stories260k-f32"), harness.shared(self.TEXT)
        losses = []
        for mix in ("Q8_0", "Q5_0", "Q4_0"):
            out = self.folder / f"{mix}.gguf"
            self.fewbits("quantize", model, out, "--to", mix, "--tensor", f"*={mix}")
            facts = self.fewbits("eval", out, "--against", model, "--text", text, "--json").facts
            losses.append(facts["kl_mean"])
        self.assertEqual(losses, sorted(losses), json.dumps(losses))
        self.assertLess(losses[0], 0.01)
        self.assertGreater(losses[2], 2 * losses[0])

    def test_greedy_text_depends_on_no_thread_count(self):
        model = harness.shared("stories260k-f32")
        texts = {self.fewbits("run", model, "Once upon a time", "--tokens", 60, "--temperature", 0, "--threads", n,
                              "--json").facts["text"] for n in (1, 2, 7)}
        self.assertEqual(len(texts), 1)
        self.assertIn("there was a little girl named Lily", texts.pop())


if __name__ == "__main__":
    harness.main()
