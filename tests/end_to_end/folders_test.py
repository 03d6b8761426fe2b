"""Quantized model folders and split files: written, read back, certified; adapters merged on the way in."""
import json
import struct

import harness
import tiny_model

LAYOUTS = (("compressed-tensors", "int4_g128"), ("compressed-tensors", "fp8_e4m3_b128"), ("gptq", "int4_g128"),
           ("gptq_v2", "int3_g128_asym"), ("awq", "int4_g64_asym"), ("fp8", "fp8_e4m3_b128"))


class Folders(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_folder(self.folder / "model")

    def tensors(self, source, *options):
        """What a model's tensors are as 16-bit floats."""
        out = self.folder / "floats.gguf"
        self.fewbits("quantize", source, out, "--to", "F16", "--no-certificate", *options)
        reader = tiny_model.GgufReader(out)
        out.unlink()
        return reader.tensors, reader.data()

    def test_every_layout_is_a_model_again(self):
        for layout, format_ in LAYOUTS:
            with self.subTest(f"{layout} {format_}"):
                out = self.folder / f"{layout}-{format_}"
                self.fewbits("quantize", self.model, out, "--to", format_, "--layout", layout)
                facts = self.fewbits("inspect", out, "--verify", "--source", self.model, "--json").facts
                self.assertTrue(facts["verified"])
                self.assertEqual(facts["certificate"]["recipe"]["layout"], layout)
                self.assertIn(format_, {tensor["format"] for tensor in facts["tensors"]})
                self.fewbits("run", out, "ab", "--tokens", 2)
                if format_ != "fp8_e4m3_b128":  # tiles have no other form
                    emulated = self.folder / "emulated.gguf"
                    self.fewbits("quantize", self.model, emulated, "--emulate", format_)
                    self.assertEqual(tiny_model.GgufReader(emulated).data(), self.tensors(out)[1])

    def test_scales_of_inputs_and_of_the_cache(self):
        out, text = self.folder / "out", self.folder / "text"
        text.write_text("the quick brown fox " * 20)
        self.fewbits("quantize", self.model, out, "--to", "fp8_e4m3_channel", "--activations", "static", "--kv-scales",
                     "--observer", "mse", "--calibrate", text, "--samples", 1, "--sample-length", 64)
        config = json.loads((out / "config.json").read_text())["quantization_config"]
        self.assertEqual(config["config_groups"]["group_0"]["input_activations"]["strategy"], "tensor")
        self.assertEqual(config["kv_cache_scheme"]["num_bits"], 8)
        header = (out / "model.safetensors").read_bytes()
        for part in (b"layers.1.mlp.down_proj.input_scale", b"layers.1.self_attn.k_scale",
                     b"layers.0.self_attn.v_scale"):
            self.assertIn(part, header)
        self.fewbits("run", out, "ab", "--tokens", 2)
        facts = self.fewbits("inspect", out, "--verify", "--source", self.model, "--json").facts["activations"]
        self.assertEqual(facts["inputs"], "fp8, static scales")
        self.assertEqual(sorted(facts["key_scales"]), sorted(facts["value_scales"]))
        self.assertIn("model.layers.1.mlp.down_proj", facts["input_scales"])

    def test_folders_are_run_as_they_say(self):
        text = self.folder / "text"
        text.write_text("the quick brown fox " * 20)
        for name, inputs in (("int8_channel", "int8"), ("int4_g128", "int8"), ("fp8_e4m3_channel", "fp8")):
            out = self.folder / name
            self.fewbits("quantize", self.model, out, "--to", name, "--activations", "dynamic")
            facts = self.fewbits("inspect", out, "--json").facts["activations"]
            self.assertEqual(facts["inputs"], f"{inputs}, dynamic")
            losses = [self.fewbits("eval", out, "--text", text, "--context", 16, "--json", *options).facts["perplexity"]
                      for options in ([], ["--activations", inputs], ["--activations", "none"])]
            self.assertEqual(losses[0], losses[1])
            self.assertNotEqual(losses[0], losses[2])
            self.assertAlmostEqual(losses[0] / losses[2], 1, delta=0.05)

    def test_groups_in_the_order_of_activations(self):
        text = self.folder / "text"
        text.write_text("the quick brown fox " * 20)
        for layout in ("gptq", "compressed-tensors"):
            out = self.folder / layout
            self.fewbits("quantize", self.model, out, "--to", "int4_g128", "--layout", layout, "--act-order",
                         "--calibrate", text, "--samples", 1, "--sample-length", 64)
            self.assertIn(b"g_idx", (out / "model.safetensors").read_bytes())
            self.fewbits("run", out, "ab", "--tokens", 2)
        self.assertTrue(json.loads((self.folder / "gptq/config.json").read_text())["quantization_config"]["desc_act"])
        for options, says in ((["int4_g128_asym", "--layout", "awq"], "--act-order: not with"),
                              (["int4_channel", "--layout", "gptq"], "--act-order: not with"),
                              (["int4_g128", "--layout", "gptq"], "need --calibrate")):
            self.refused("quantize", self.model, self.folder / "no", "--act-order", "--to", *options, says=[says])

    def test_sparse(self):
        out = self.folder / "out"
        self.fewbits("quantize", self.model, out, "--to", "fp8_e4m3_channel", "--sparse")
        config = json.loads((out / "config.json").read_text())["quantization_config"]
        self.assertEqual(config["sparsity_config"]["sparsity_structure"], "2:4")
        self.fewbits("run", out, "ab", "--tokens", 2)
        self.refused("quantize", self.model, self.folder / "no", "--to", "int4_g128", "--sparse",
                     says=["--sparse: not with"])

    def test_scales_that_cannot_be(self):
        out, text = self.folder / "out", self.model / "tokenizer.json"
        for options, says in (
                (["int8_channel", "--activations", "static"], "need --calibrate"),
                (["int8_channel", "--kv-scales"], "need --calibrate"),
                (["int4_g128", "--activations", "static"], "not with int4_g128 in compressed-tensors; possible: fl"),
                (["int8_channel", "--observer", "mse"], "only with --activations static"),
                (["nvfp4_tensor", "--activations", "dynamic"], "possible: floats, static"),
                (["int4_g128", "--layout", "gptq", "--kv-scales", "--calibrate", text], "gptq has no place")):
            self.refused("quantize", self.model, out, "--to", *options, says=[says])
        self.refused("quantize", self.model, self.folder / "out.gguf", "--to", "Q8_0", "--activations", "static",
                     says=["only for a model folder"])

    def test_shards_hold_the_same(self):
        whole, shards = self.folder / "whole", self.folder / "shards"
        self.fewbits("quantize", self.model, whole, "--to", "int4_g128")
        self.fewbits("quantize", self.model, shards, "--to", "int4_g128", "--split", "200K")
        names = sorted(path.name for path in shards.glob("*.safetensors"))
        self.assertGreater(len(names), 2)
        self.assertEqual(names[0], f"model-00001-of-{len(names):05}.safetensors")
        self.assertEqual(self.tensors(whole), self.tensors(shards))
        certificates = [json.loads((path / "fewbits.json").read_text()) for path in (whole, shards)]
        self.assertEqual(*(certificate["data_sha256"] for certificate in certificates))

    def test_a_changed_file_is_found(self):
        out = self.folder / "out"
        self.fewbits("quantize", self.model, out, "--to", "int4_g128")
        weights = out / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        self.refused("inspect", out, "--verify", says=["'model.safetensors' is not the file that was certified"])
        (out / "tokenizer.json").write_text((out / "tokenizer.json").read_text() + " ")
        self.refused("inspect", out, "--verify", says=["'tokenizer.json' is not the file"])

    def test_a_weight_that_stays_quantized_is_not_copied(self):
        out = self.folder / "out"
        self.fewbits("quantize", self.model, out, "--to", "int4_g128")
        self.refused("quantize", out, self.folder / "again", "--to", "int8_g128", "--tensor", "blk.0.*=F16",
                     says=["in int4_g128 already"])

    def test_split_gguf(self):
        whole = self.folder / "whole.gguf"
        self.fewbits("quantize", self.model, whole, "--to", "Q8_0", "--no-certificate")
        self.fewbits("quantize", self.model, self.folder / "s.gguf", "--to", "Q8_0", "--no-certificate", "--split",
                     "400K")
        parts = sorted(self.folder.glob("s-*.gguf"))
        self.assertGreater(len(parts), 2)
        self.assertFalse((self.folder / "s.gguf").exists())
        for part in (parts[0], parts[-1]):
            self.assertEqual(self.tensors(whole), self.tensors(part))
        parts[1].unlink()
        self.refused("inspect", parts[0], says=[parts[1].name])

    def test_adapter(self):
        adapter = self.folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
        module = "base_model.model.model.layers.1.mlp.up_proj"
        tiny_model.write_safetensors(adapter / "adapter_model.safetensors", {
            f"{module}.lora_A.weight": ([1, 256], tiny_model.GGUF_F16, struct.pack("<256e", *[1.0] * 256)),
            f"{module}.lora_B.weight": ([512, 1], tiny_model.GGUF_F16, struct.pack("<512e", *[0.0] * 512))})
        self.assertEqual(self.tensors(self.model), self.tensors(self.model, "--lora", adapter))
        tiny_model.write_safetensors(adapter / "adapter_model.safetensors", {
            f"{module}.lora_A.weight": ([1, 256], tiny_model.GGUF_F16, struct.pack("<256e", *[1.0] * 256)),
            f"{module}.lora_B.weight": ([512, 1], tiny_model.GGUF_F16, struct.pack("<512e", *[0.5] * 512))})
        self.assertNotEqual(self.tensors(self.model), self.tensors(self.model, "--lora", adapter))


if __name__ == "__main__":
    harness.main()
