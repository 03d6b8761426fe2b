"""How the program answers: exit codes, one-line errors, facts as JSON."""
import os
import re

import harness
import tiny_model


class CommandLine(harness.Case):
    def verbs(self):
        help_text = self.fewbits("--help").stdout
        return re.findall(r"^  ([a-z]+) ", help_text[help_text.index("Subcommands"):], re.M)

    def test_help_lists_verbs_and_each_has_its_own(self):
        verbs = self.verbs()
        self.assertLessEqual({"quantize", "eval", "run", "chat", "inspect"}, set(verbs))
        for verb in verbs:
            with self.subTest(verb):
                self.assertIn("--", self.fewbits(verb, "--help").stdout)

    def test_version_names_the_instruction_sets(self):
        text = self.fewbits("--version").stdout
        self.assertRegex(text, r"fewbits \d+\.\d+\.\d+")
        self.assertIn("scalar", text)

    def test_wrong_use_is_one_line(self):
        self.refused()
        self.refused("quantise")
        self.refused("inspect", "model.gguf", "--colour")
        self.refused("quantize", "only-one-argument.gguf")

    def test_unknown_instruction_set_lists_the_known(self):
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        environment = os.environ | {"FEWBITS_ISA": "sse9"}
        self.refused("run", model, "the", "--tokens", 1, "--json", says=["sse9", "scalar"], env=environment)

    def test_missing_and_foreign_files(self):
        self.refused("inspect", self.folder / "nowhere.gguf", says="nowhere.gguf")
        self.refused("inspect", self.folder, says="config.json")
        (self.folder / "empty.gguf").touch()
        self.refused("inspect", self.folder / "empty.gguf", says="empty.gguf")
        (self.folder / "text.gguf").write_text("this is no model, whatever its name says\n" * 9)
        self.refused("inspect", self.folder / "text.gguf", says="text.gguf")
        self.refused("inspect", "/dev/null", says="/dev/null")

    def test_unknown_names_list_the_known(self):
        model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        out = self.folder / "out.gguf"
        self.refused("quantize", model, out, "--to", "Q9_K_M", says=["Q9_K_M", "Q4_K_M"])
        self.refused("quantize", model, out, "--to", "Q4_K_M", "--tensor", "blk.*=Q9_K", says=["Q9_K", "Q4_K"])
        self.refused("quantize", model, out, "--to", "Q4_K_M", "--output", "Q9_K", says=["Q9_K", "Q4_K"])
        self.assertEqual(self.files(), ["tiny.gguf"])


class Facts(harness.Case):
    """The keys that scripts rely on."""

    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.text = self.folder / "text.txt"
        self.text.write_text("the thin thing in the inn. " * 200)

    def has(self, facts, keys):
        self.assertLessEqual(set(keys.split()), set(facts))

    def test_inspect(self):
        facts = self.fewbits("inspect", self.model, "--json").facts
        self.has(facts, "architecture parameters bytes tensors")
        self.assertEqual(facts["architecture"], "llama")
        self.assertEqual(facts["bytes"], self.model.stat().st_size)
        self.has(facts["tensors"][0], "name shape format bytes")
        self.assertEqual(facts["tensors"][0]["shape"], [260, 256])

    def test_quantize(self):
        out = self.folder / "out.gguf"
        facts = self.fewbits("quantize", self.model, out, "--to", "Q8_0", "--json").facts
        self.has(facts, "bytes_in bytes_out bits_per_weight seconds peak_memory_bytes")
        self.assertEqual(facts["bytes_out"], out.stat().st_size)

    def test_eval(self):
        facts = self.fewbits("eval", self.model, "--text", self.text, "--chunks", 2, "--json").facts
        self.has(facts, "perplexity perplexity_low perplexity_high tokens")
        self.assertGreater(facts["perplexity"], 1)

    def test_eval_against_itself_loses_nothing(self):
        facts = self.fewbits("eval", self.model, "--against", self.model, "--text", self.text, "--chunks", 2,
                             "--json").facts
        self.has(facts, "kl_mean kl_low kl_high kl_p99 kl_p999 kl_max top1_agreement")
        self.assertLess(facts["kl_max"], 1e-6)
        self.assertEqual(facts["top1_agreement"], 1)

    def test_eval_stops_at_a_loss_that_is_too_large(self):
        out = self.folder / "q.gguf"
        self.fewbits("quantize", self.model, out, "--to", "Q2_K")
        check = ("eval", out, "--against", self.model, "--text", self.text, "--chunks", 2, "--max-kl")
        self.fewbits(*check, 100)
        self.assertIn("--max-kl", self.fewbits(*check, 0, code=harness.THEIR_ERROR).stderr)

    def test_run(self):
        facts = self.fewbits("run", self.model, "the thin", "--tokens", 5, "--json").facts
        self.has(facts, "text prompt_tokens generated_tokens prefill_tokens_per_second decode_tokens_per_second")
        self.assertLessEqual(facts["generated_tokens"], 5)

    def test_bench(self):
        facts = self.fewbits("bench", self.model, "--prompt", 16, "--tokens", 2, "--depth", 8, "--repeats", 1,
                             "--json").facts
        self.has(facts, "isa threads read_bytes_per_second int8_ops_per_second fma_flops_per_second "
                        "tile_flops_per_second rows")
        self.has(facts["rows"][0], "test format tokens_per_second share_of_limit")
        tests = {row["test"] for row in facts["rows"]}
        self.assertLessEqual({"prefill 16", "decode", "decode at 8", "quantize"}, tests)


if __name__ == "__main__":
    harness.main()
