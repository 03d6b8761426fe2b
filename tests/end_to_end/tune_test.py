"""What tune does to a quantized file: the same bytes for any thread count, no byte more, refusals in one line."""
import random

import harness
import tiny_model


class Tune(harness.Case):
    def setUp(self):
        super().setUp()
        self.source = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.small = self.folder / "small.gguf"
        self.fewbits("quantize", self.source, self.small, "--to", "Q4_0")
        self.text = self.folder / "text.txt"
        draw = random.Random(3)
        self.text.write_text(" ".join("".join(draw.choices("etaoinshrdlu", k=5)) for _ in range(2000)))

    def tune(self, out, *options, small=None):
        return self.fewbits("tune", small or self.small, out, "--against", self.source, "--text", self.text,
                            "--samples", 12, "--sample-length", 64, *options)

    def test_divergence_falls_and_the_codes_stay(self):
        out = self.folder / "tuned.gguf"
        facts = self.tune(out, "--rate", 0.01, "--epochs", 2, "--json").facts
        self.assertLess(facts["kl_after"], facts["kl_before"])
        before, after = tiny_model.GgufReader(self.small), tiny_model.GgufReader(out)
        self.assertEqual(before.tensors, after.tensors)
        self.assertNotEqual(before.data(), after.data())
        self.fewbits("inspect", out, "--verify")

    def test_bytes_depend_on_no_thread_count(self):
        outs = []
        for threads in (1, 2, 7):
            outs.append(self.folder / f"{threads}.gguf")
            self.tune(outs[-1], "--threads", threads)
        self.assertEqual(len({out.read_bytes() for out in outs}), 1)

    def test_refusals(self):
        out = self.folder / "out.gguf"
        options = ("--against", self.source, "--text", self.text)
        self.refused("tune", self.small, self.small, *options, says="the output is the input")
        self.refused("tune", self.small, out, *options, "--samples", 1, says="too few samples")
        other = tiny_model.TinyModel(layers=1).write_gguf(self.folder / "other.gguf")
        self.refused("tune", other, out, *options, says="different shapes")
        self.refused("tune", self.source, out, *options, says="nothing in it has block scales")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    harness.main()
