"""tools/tidy.py finds what it must and nothing else."""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import tidy  # noqa: E402


def complaints(path, text, rules=tuple(tidy.FILE_RULES)):
    file = tidy.File(path, text)
    return [finding.text for rule in rules for finding in rule(file)]


class Layers(unittest.TestCase):
    def test_below_and_own_folder_are_allowed(self):
        text = '#include "base/error.h"\n#include "formats/format.h"\n#include <vector>\n'
        self.assertEqual(complaints("src/formats/q8_0.cc", text), [])

    def test_above_is_refused(self):
        self.assertIn("formats includes kernels", complaints("src/formats/q8_0.cc", '#include "kernels/matmul.h"\n')[0])

    def test_same_level_is_refused_but_methods_may_use_train(self):
        self.assertEqual(len(complaints("src/evaluate/a.cc", '#include "plan/a.h"\n')), 1)
        self.assertEqual(complaints("src/methods/a.cc", '#include "train/a.h"\n'), [])
        self.assertEqual(len(complaints("src/train/a.cc", '#include "methods/a.h"\n')), 1)

    def test_unknown_layer_and_bare_name(self):
        self.assertIn("no layer", complaints("src/helpers/a.cc", "")[0])
        self.assertIn("not named from src/", complaints("src/base/a.cc", '#include "error.h"\n')[0])


class Functions(unittest.TestCase):
    CODE = """namespace fewbits {
struct Shape { int rows; int columns{0}; int area() const { return rows * columns; } };
template <class T>
Shape make(int rows,
           std::span<const T, 4> values, int c = f(1, 2)) {
  for (int i = 0; i < 3; ++i) {
    if (i) {
      each([&](int k) { while (k) { --k; } });
    }
  }
  const char* text = "} { // not code";
  return Shape{rows, 1};
}
Thing::Thing(int a) : a_{a}, b_(f(a)), c_{1} {
  start();
}
constexpr int kTable[] = {1, 2};
constexpr auto kMade = [] { return 1; }();
}
"""

    def test_names_lines_parameters_and_nesting(self):
        found = {f.name: f for f in tidy.cpp_functions(tidy.File("a.cc", self.CODE).code)}
        self.assertEqual(set(found), {"area", "make", "Thing::Thing"})
        self.assertEqual((found["make"].line, found["make"].lines), (3, 11))
        self.assertEqual((found["make"].parameters, found["make"].nesting), (3, 3))
        self.assertEqual((found["area"].parameters, found["area"].nesting), (0, 0))
        self.assertEqual((found["Thing::Thing"].line, found["Thing::Thing"].lines), (14, 3))

    def test_limit_is_seventy(self):
        body = "int f() {\n" + "  step();\n" * 68 + "}\n"
        self.assertEqual(complaints("src/base/a.cc", body), [])
        self.assertIn("f has 71 lines", complaints("src/base/a.cc", body.replace("{\n", "{\n  step();\n"))[0])

    def test_python_functions_are_measured_too(self):
        text = "def f():\n" + "    step()\n" * 70
        self.assertIn("f has 71 lines", complaints("tools/a.py", text)[0])


class Lines(unittest.TestCase):
    def test_columns(self):
        self.assertEqual(len(complaints("src/base/a.cc", "// " + "x" * 98 + "\n")), 1)
        self.assertEqual(complaints("tools/a.py", "# " + "x" * 118 + "\n"), [])

    def test_file_length_warns_then_fails(self):
        def found(count):
            return list(tidy.check_sizes(tidy.File("src/base/a.cc", "f();\n" * count)))
        self.assertEqual(found(500), [])
        self.assertTrue(found(501)[0].warning)
        self.assertFalse(found(801)[0].warning)

    def test_leftovers(self):
        for line in ("// TO" "DO: later", "// return 1;", "//   \t", "// x = f(2);", "// for (;;) {"):
            with self.subTest(line):
                self.assertNotEqual(complaints("src/base/a.cc", line + "\n"), [])

    def test_prose_and_examples_are_no_leftovers(self):
        text = "// Sums are kept in order; see below.\n//   throw Error(where);\n// value = scale * level\n"
        self.assertEqual(complaints("src/base/a.cc", text), [])

    def test_paths_of_one_machine(self):
        self.assertNotEqual(complaints("docs/a.md", "see /ho" "me/me/model\n"), [])
        self.assertEqual(complaints("docs/a.md", "frame/work/x and ~/models\n"), [])


class Preprocessor(unittest.TestCase):
    def test_branches_only_where_machines_differ(self):
        self.assertNotEqual(complaints("src/base/text.cc", "#ifdef __x86_64__\n#endif\n"), [])
        self.assertEqual(complaints("src/kernels/cpu.cc", "#if defined(__x86_64__)\n#endif\n"), [])
        self.assertNotEqual(complaints("src/kernels/cpu.cc", "#if 0\n#endif\n"), [])

    def test_macros(self):
        self.assertNotEqual(complaints("src/base/text.cc", "#define MAX(a, b) a\n"), [])
        self.assertEqual(complaints("src/base/text_test.cc", "#define CASE(a) a\n"), [])

    def test_header_guard(self):
        self.assertNotEqual(complaints("src/base/a.h", "int x;\n"), [])


class Registry(unittest.TestCase):
    def found(self, rows, defining=("a", "b")):
        files = [tidy.File(f"src/formats/{stem}.cc", "constinit const Format format = {\n};\n") for stem in defining]
        array = ", ".join(f"&{row}::format" for row in rows)
        files.append(tidy.File("src/formats/all.cc", f"constexpr std::array<const Format*, 2> k = {{\n{array}}};\n"))
        return [finding.text for finding in tidy.check_registry(files, "src/formats", "Format")]

    def test_complete_and_sorted(self):
        self.assertEqual(self.found(["a", "b"]), [])

    def test_missing_unsorted_and_unknown(self):
        self.assertEqual(self.found(["a"]), ["b is not listed"])
        self.assertIn("not sorted", self.found(["b", "a"])[0])
        self.assertIn("does not define it", self.found(["a", "b", "c"])[0])


class Repository(unittest.TestCase):
    def test_kinds(self):
        self.assertNotEqual(complaints("src/base/a.cpp", ""), [])
        self.assertEqual(complaints("tests/fuzz/corpus/gguf/3f2a", ""), [])

    def test_large_files(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "big.bin").write_bytes(bytes(tidy.BLOB_BYTES + 1))
            self.assertEqual(len(list(tidy.check_blobs(pathlib.Path(folder), ["big.bin"]))), 1)

    def test_options(self):
        text = "".join(f"option(FEWBITS_{i} \"\" ON)\n" for i in range(7))
        self.assertEqual(len(list(tidy.check_cmake_options([tidy.File("CMakeLists.txt", text)]))), 1)


if __name__ == "__main__":
    unittest.main()
