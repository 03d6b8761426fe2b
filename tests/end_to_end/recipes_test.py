"""Options kept in files: every recipe that comes with the program works, and what is wrong with one is said."""
import pathlib

import harness
import tiny_model

RECIPES = sorted((pathlib.Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
FOLDERS = ("w4", "w8")


class Recipes(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_folder(self.folder / "model")
        self.text = self.folder / "text"
        self.text.write_text("the thin thing in the inn. " * 400)

    def write(self, text):
        path = self.folder / "recipe.yaml"
        path.write_text(text)
        return path

    def test_each_makes_a_model_that_runs(self):
        self.assertGreater(len(RECIPES), 8)
        for recipe in RECIPES:
            with self.subTest(recipe.stem):
                out = self.folder / (recipe.stem if recipe.stem.startswith(FOLDERS) else recipe.stem + ".gguf")
                text = [] if "effort: 0" in recipe.read_text() else ["--calibrate", self.text]
                quick = [] if recipe.stem.startswith(FOLDERS) else ["--learn", 2]
                self.fewbits("quantize", self.model, out, "--recipe", recipe, *text, *quick, "--samples", 10,
                             "--sample-length", 32)
                self.fewbits("run", out, "ab", "--tokens", 2)
                self.fewbits("inspect", out, "--verify", "--source", self.model)

    def test_what_is_typed_counts_before_it(self):
        recipe = self.write("to: Q4_0\ntensor: {'blk.0.*': Q8_0}\nno-certificate: true\n")
        out = self.folder / "out.gguf"

        def formats():
            facts = self.fewbits("inspect", out, "--json").facts
            self.assertNotIn("certificate", facts)
            return {tensor["name"]: tensor["format"] for tensor in facts["tensors"]}

        self.fewbits("quantize", self.model, out, "--recipe", recipe)
        self.assertEqual((formats()["blk.0.ffn_up.weight"], formats()["blk.1.ffn_up.weight"]), ("Q8_0", "Q4_0"))
        self.fewbits("quantize", self.model, out, f"--recipe={recipe}", "--to", "Q5_0")
        self.assertEqual(formats()["blk.1.ffn_up.weight"], "Q5_0")

    def test_texts_lie_beside_it(self):
        recipe = self.write("to: Q4_0\ncalibrate: [text]\nsamples: 1\nsample-length: 32\n")
        self.fewbits("quantize", self.model, self.folder / "out.gguf", "--recipe", recipe)

    def test_what_is_wrong_is_said(self):
        for text, says in (("too: Q4_0", ["no key", "did you mean 'to'", "calibrate"]), ("to: [", ["line"]),
                           ("- Q4_0", ["no mapping"]), ("pure: maybe", ["pure: true or false"]),
                           ("to: Q9", ["Q9"]), ("recipe: again.yaml", ["no key"]), ("to: {a: b}", ["to: a plain"]),
                           ("tensor: {a: [b]}", ["GLOB: FORMAT"]), ("samples: many", ["--samples"])):
            with self.subTest(text):
                self.refused("quantize", self.model, self.folder / "out.gguf", "--recipe", self.write(text), says=says)
        self.refused("quantize", self.model, self.folder / "out.gguf", "--recipe", self.folder / "none.yaml",
                     says=["none.yaml"])


class Effort(harness.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model.TinyModel().write_gguf(self.folder / "tiny.gguf")
        self.text = self.folder / "text"
        self.text.write_text("the thin thing in the inn. " * 400)
        self.out = self.folder / "out.gguf"
        self.calibrate = ("--calibrate", self.text, "--samples", 10, "--sample-length", 32)
        self.quick = (*self.calibrate, "--learn", 2)

    def test_none_reads_no_text(self):
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--no-certificate")
        nearest = self.out.read_bytes()
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--no-certificate", "--effort", 0,
                     *self.calibrate)
        self.assertEqual(self.out.read_bytes(), nearest)

    def test_the_most_ends_in_time_with_one_file(self):
        self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--effort", 3, "--time", "4s", "--certify",
                     self.text, *self.quick)
        recipe = self.fewbits("inspect", self.out, "--verify", "--source", self.model,
                              "--json").facts["certificate"]["recipe"]
        self.assertEqual((recipe["to"], recipe["tune"]["samples"]), ("Q4_0", 10))
        self.assertEqual(self.files(), ["out.gguf", "text", "tiny.gguf"])

    def test_the_most_ends_with_a_file_where_nothing_can_be_tuned(self):
        few = ("--calibrate", self.text, "--sample-length", 32, "--learn", 2)
        said = self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--effort", 3, *few, "--samples", 1)
        self.assertIn("scales are not tuned", said.stderr)
        self.fewbits("inspect", self.out, "--verify", "--source", self.model)
        self.out.unlink()
        said = self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--effort", 3, *few, "--samples", 3)
        self.assertNotIn("not tuned", said.stderr)
        self.assertEqual(self.files(), ["out.gguf", "text", "tiny.gguf"])

    def test_what_was_rounded_is_not_rounded_again(self):
        stage = self.folder / "out.untuned.gguf"
        self.fewbits("quantize", self.model, stage, "--to", "Q4_0", "--effort", 2, *self.quick)
        stage.chmod(0o444)  # who writes it anew is refused
        said = self.fewbits("quantize", self.model, self.out, "--to", "Q4_0", "--effort", 3, "--time", "1s",
                            *self.quick).stdout
        self.assertNotIn(stage.name, said)
        self.assertEqual(self.files(), ["out.gguf", "text", "tiny.gguf"])

    def test_what_cannot_be_is_said(self):
        quantize = ("quantize", self.model, self.out, "--to", "Q4_0")
        self.refused(*quantize, "--effort", 1, says=["--calibrate"])
        self.refused(*quantize, "--effort", 4, says=["--effort"])
        self.refused(*quantize, "--effort", 1, "--time", "1h", *self.calibrate, says=["--effort 3"])
        self.refused(*quantize, "--effort", 3, "--time", "soon", *self.calibrate, says=["soon", "8h"])


if __name__ == "__main__":
    harness.main()
