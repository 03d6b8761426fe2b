#!/usr/bin/env python3
"""Enforces how this project is written, as far as a program can, and prints the numbers that show how it is kept.

  layers      a source file includes only from its own layer's folder or from layers below (LAYERS)
  sizes       function <= 70 lines, file <= 800 (500 is a warning), line <= 100 in C++ and 120 elsewhere
  shape       nesting <= 3, parameters <= 5: warnings
  leftovers   no TODO or FIXME, no #if 0, no commented-out code, no trailing blanks or tabs
  preprocessor  #if only where machines differ (MAY_BRANCH); no macro but `check` and those of tests
  registries  formats/all.cc and architectures/all.cc list every file that defines one, sorted
  repository  known kinds of files only, none above 256 KiB, at most 6 CMake options, no path of one machine

usage: tools/tidy.py [--root FOLDER] [--quiet]        exit code 1 where a rule is broken; warnings do not count
"""
import argparse
import ast
import bisect
import dataclasses
import functools
import pathlib
import re
import statistics
import subprocess
import sys

LAYERS = [
    {"base"}, {"formats"}, {"kernels"}, {"files"}, {"model"}, {"engine"}, {"calibrate"}, {"methods", "train"},
    {"evaluate", "plan", "report"}, {"pipeline"}, {"api"}, {"cli", "serve", "python"},
]
SIDEWAYS = {("methods", "train")}
LEVEL = {layer: level for level, layers in enumerate(LAYERS) for layer in layers}

FUNCTION_LINES, FILE_LINES, FILE_LINES_SOFT = 70, 800, 500
NESTING, PARAMETERS = 3, 5
CPP_COLUMNS, OTHER_COLUMNS = 100, 120
BLOB_BYTES = 256 * 1024
CMAKE_OPTIONS = 6

CPP = {".cc", ".h", ".inl", ".cu"}
TEXT = CPP | {".py", ".sh", ".cmake", ".md", ".json", ".yaml", ".txt"}
DATA = {".bin", ".gguf", ".safetensors", ".gz", ".npy", ".jsonl", ".jinja"}
NO_SUFFIX = {"LICENSE", "NOTICE", "check", "demo", "run", ".gitignore", ".clang-format", ".clang-tidy"}
ANY_KIND = re.compile(r"tests/(fuzz/corpus|golden)/")
LARGE_ALLOWED = set()

MAY_BRANCH = re.compile(
    r"src/(kernels/(cpu|isa)\w*\.|kernels/cuda/|base/(mapped_file|thread_pool)\.cc|formats/lanes\.h)")
# Ours, an attribute that compilers know or not, and what a library's header asks for.
MACROS_ALLOWED = {"check", "FEWBITS_WIDE_LANES", "PCRE2_CODE_UNIT_WIDTH"}
LEFTOVER = re.compile(r"\b(TODO|FIX" r"ME|XXX|HACK)\b")
# Statements in line comments; examples in headers are indented by more than one blank.
DEAD_CODE = re.compile(r"// ?(return\b.*;|(if|for|while) \(.*[;{]|\}|[\w:.<>\->]+\(.*\);|\w[\w:<>*& ]* = .*;)$")
ONE_MACHINE = re.compile(r"(?<![\w./~])/(work|home|root|Users)/\w")

CPP_TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s\\]*)\(.*?\)(?P=tag)"|"""
    r""""(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+'""", re.S)


@dataclasses.dataclass
class Finding:
    path: str
    line: int
    text: str
    warning: bool = False

    def __str__(self):
        return f"{self.path}:{self.line}: {'warning: ' if self.warning else ''}{self.text}"


@dataclasses.dataclass
class Function:
    name: str
    line: int
    lines: int
    parameters: int
    nesting: int


@dataclasses.dataclass
class File:
    path: str
    text: str

    @property
    def suffix(self):
        return pathlib.PurePath(self.path).suffix

    @property
    def is_cpp(self):
        return self.suffix in CPP

    @property
    def is_test(self):
        return "_test." in self.path or self.path.startswith("tests/")

    @functools.cached_property
    def lines(self):
        return self.text.splitlines()

    @functools.cached_property
    def code(self):
        """C++ without comments and without what strings hold, every character where it was."""
        def blank(match):
            token = match.group()
            if token[0] in "\"'":
                return token[0] + " " * (len(token) - 2) + token[-1]
            return re.sub(r"[^\n]", " ", token)
        return CPP_TOKENS.sub(blank, self.text)

    @functools.cached_property
    def functions(self):
        if self.is_cpp:
            return cpp_functions(self.code)
        return python_functions(self.text) if self.suffix == ".py" else []

    @functools.cached_property
    def comment_lines(self):
        if self.is_cpp:
            return sum(1 for raw, code in zip(self.lines, self.code.splitlines()) if raw.strip() and not code.strip())
        return sum(1 for line in self.lines if line.strip().startswith("#"))


# --- functions in C++ -----------------------------------------------------------------------------

CONTROL = re.compile(r"^(else\s+)?(if|for|while|switch|do|else|try|catch)\b")
AFTER_INIT_LIST = re.compile(r"\)\s*(noexcept\s*)?:(?!:)[^;]*[\w>]$")


def kind_of_block(head, inside):
    """What a `{` opens, told by the text before it since the last `;`, `{` or `}` and by what it lies in."""
    if inside not in ("namespace", "type"):
        return "control" if CONTROL.match(head) else "block"
    if re.match(r"(inline\s+)?namespace\b|extern\s", head):
        return "namespace"
    if AFTER_INIT_LIST.search(head) and not re.search(r"\b(const|noexcept|override|final)$", head):
        return "initializer"
    without_template = re.sub(r"^template\s*<.*?>\s*(?=\w)", "", head, flags=re.S)
    if re.match(r"(class|struct|union|enum)\b", without_template) and "(" not in without_template:
        return "type"
    return "function" if "(" in head and not re.search(r"=\s*$|=\s*[\w:<>]+$", head) else "block"


def parameter_count(head):
    """Commas at the top level of the first parentheses that follow the function's name."""
    start = head.find("(")
    if head[:start].endswith("operator"):
        start = head.find("(", start + 1)
    depth, count, any_text = 0, 1, False
    for character in head[start:]:
        depth += (character in "([{<") - (character in ")]}>")
        if depth == 0:
            break
        count += character == "," and depth == 1
        any_text = any_text or (depth >= 1 and character not in "( \n")
    return count if any_text else 0


@dataclasses.dataclass
class Block:
    kind: str
    begin: int = 0
    head: str = ""
    parentheses: int = 0
    nesting: int = 0


def without_directives(code):
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group()), code, flags=re.M)


def blocks_of(code):
    """(block, end) of everything in braces as it closes. A head reaches back to the last `;`, `{` or `}`."""
    block = Block("namespace")
    stack, head_from, parentheses = [block], 0, 0
    for match in re.finditer(r"[{};()]", code):
        at, character = match.start(), match.group()
        if character in "()" or (character == ";" and parentheses):
            parentheses += (character == "(") - (character == ")")
            continue
        if character == "{":
            raw = code[head_from:at]
            head = re.sub(r"^(public|private|protected):\s*", "", raw.strip())
            block = Block(kind_of_block(head, stack[-1].kind), at - len(raw.lstrip()), head, parentheses)
            stack.append(block)
            parentheses = 0
            for outer in stack if block.kind == "control" else []:
                outer.nesting = max(outer.nesting, sum(b.kind == "control" for b in stack[stack.index(outer):]))
        if character == "}" and len(stack) > 1:
            block = stack.pop()
            parentheses = block.parentheses
            yield block, at
        if character == ";" or block.kind != "initializer":
            head_from = at + 1


def cpp_functions(code):
    """Every function with a body, by matching braces. Lambdas belong to the function they stand in."""
    code = without_directives(code)
    line_starts = [0] + [m.end() for m in re.finditer("\n", code)]
    line_of = lambda at: bisect.bisect_right(line_starts, at)
    functions = []
    for block, end in blocks_of(code):
        if block.kind == "function":
            name = re.search(r"([~\w:]+|operator\S+)\s*\(", block.head)
            first = line_of(block.begin)
            functions.append(Function(name.group(1) if name else "?", first, line_of(end) - first + 1,
                                      parameter_count(block.head), block.nesting))
    return functions


def python_functions(text):
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [Function(f.name, f.lineno, f.end_lineno - f.lineno + 1, len(f.args.args), 0) for f in found]


# --- rules on one file ----------------------------------------------------------------------------

def check_layers(file):
    parts = pathlib.PurePath(file.path).parts
    if parts[:2] == ("include", "fewbits"):
        return
    if parts[0] != "src" or not file.is_cpp:
        return
    own = parts[1]
    if own not in LEVEL:
        yield Finding(file.path, 1, f"src/{own} is no layer; known: {', '.join(sorted(LEVEL))}")
        return
    for number, line in enumerate(file.lines, 1):
        match = re.match(r'\s*#\s*include "([^"]+)"', line)
        if not match:
            continue
        layer = match.group(1).split("/")[0]
        if layer == "fewbits" or layer == own or (own, layer) in SIDEWAYS:
            continue
        if layer not in LEVEL:
            yield Finding(file.path, number, f'"{match.group(1)}" is not named from src/')
        elif LEVEL[layer] >= LEVEL[own]:
            yield Finding(file.path, number, f"{own} includes {layer}, which is no layer below it")


def check_sizes(file):
    if file.suffix not in TEXT - {".json", ".txt"} or ANY_KIND.match(file.path) and not file.suffix == ".py":
        return
    count = len(file.lines)
    if count > FILE_LINES_SOFT and file.suffix != ".md":
        over = count > FILE_LINES
        yield Finding(file.path, 1, f"{count} lines, {FILE_LINES if over else FILE_LINES_SOFT} are the most", not over)
    most = CPP_COLUMNS if file.is_cpp else OTHER_COLUMNS
    for number, line in enumerate(file.lines, 1):
        if len(line) > most and file.suffix != ".md" and "https://" not in line:
            yield Finding(file.path, number, f"{len(line)} columns, {most} are the most")
    for function in file.functions:
        if function.lines > FUNCTION_LINES:
            yield Finding(file.path, function.line,
                          f"{function.name} has {function.lines} lines, {FUNCTION_LINES} are the most")


def check_shape(file):
    if not file.is_cpp or file.is_test:
        return
    for function in file.functions:
        if function.nesting > NESTING:
            yield Finding(file.path, function.line, f"{function.name} nests {function.nesting} deep", True)
        if function.parameters > PARAMETERS:
            yield Finding(file.path, function.line, f"{function.name} has {function.parameters} parameters", True)


def check_leftovers(file):
    if file.suffix not in TEXT - {".json", ".txt"} or ANY_KIND.match(file.path):
        return
    for number, line in enumerate(file.lines, 1):
        if LEFTOVER.search(line) and file.path != "tools/tidy.py":
            yield Finding(file.path, number, "unfinished work has no place here: do it or leave it out")
        if file.is_cpp and DEAD_CODE.match(line.strip()):
            yield Finding(file.path, number, "commented-out code; git remembers")
        if line != line.rstrip() or "\t" in line:
            yield Finding(file.path, number, "trailing blanks or a tab")
        if ONE_MACHINE.search(line):
            yield Finding(file.path, number, "a path of one machine")


def check_preprocessor(file):
    if not file.is_cpp:
        return
    for number, line in enumerate(file.code.splitlines(), 1):
        branch = re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line)
        if branch and (not MAY_BRANCH.match(file.path) or re.match(r"\s*#\s*if\s+[01]\b", line)):
            yield Finding(file.path, number, "#if outside the files where machines differ")
        macro = re.match(r"\s*#\s*define\s+(\w+)", line)
        if macro and not file.is_test and macro.group(1) not in MACROS_ALLOWED:
            yield Finding(file.path, number, f"macro {macro.group(1)}: a function or constant does it")
        if file.suffix == ".h" and number == 1 and not file.text.startswith("#pragma once"):
            yield Finding(file.path, 1, "a header begins with #pragma once")


def check_kind(file):
    name = pathlib.PurePath(file.path).name
    if ANY_KIND.match(file.path) or name in NO_SUFFIX or file.suffix in TEXT | DATA:
        return
    yield Finding(file.path, 1, f"files of this kind ('{file.suffix}') are not expected")


FILE_RULES = [check_layers, check_sizes, check_shape, check_leftovers, check_preprocessor, check_kind]


# --- rules on the whole ---------------------------------------------------------------------------

def check_registry(files, folder, kind):
    """FOLDER/all.cc lists, sorted, each file of FOLDER that defines a KIND at namespace scope.

    A file that defines a family is a namespace whose entries have names of their own.
    """
    by_path = {file.path: file for file in files}
    registry = by_path.get(f"{folder}/all.cc")
    definition = re.compile(rf"^(?:extern |constinit |constexpr |inline )*const {kind} \w+\s*"
                            r"(=?\s*\{|=\s*[\w:]+[<(])", re.M)
    defining = sorted(pathlib.PurePath(p).stem for p, file in by_path.items()
                      if pathlib.PurePath(p).parent.as_posix() == folder and p.endswith(".cc")
                      and not file.is_test and file is not registry and definition.search(file.code))
    if not registry:
        if defining:
            yield Finding(f"{folder}/all.cc", 1, f"missing, but {folder} has {', '.join(defining)}")
        return
    array = re.search(rf"const {kind}\s*\*[^;{{]*\{{(.*?)\}};", registry.code, re.S)
    entries = re.findall(r"&(\w+)(?:::(\w+))?", array.group(1)) if array else []
    listed = [file for file, _ in entries]
    names = [file if name in ("", kind.lower()) else name for file, name in entries]
    for name in sorted(set(defining) - set(listed)):
        yield Finding(registry.path, 1, f"{name} is not listed")
    for name in sorted(set(listed) - set(defining)):
        yield Finding(registry.path, 1, f"{name} is listed but {folder}/{name}.cc does not define it")
    if names != sorted(names):
        yield Finding(registry.path, 1, f"not sorted: {', '.join(names)}")


def check_cmake_options(files):
    names = [name for file in files if file.suffix == ".cmake" or file.path.endswith("CMakeLists.txt")
             for name in re.findall(r"^option\((\w+)|^set\((\w+)[^)]* CACHE ", file.text, re.M)]
    if len(names) > CMAKE_OPTIONS:
        yield Finding("CMakeLists.txt", 1, f"{len(names)} options, {CMAKE_OPTIONS} are the most")


def check_blobs(root, paths):
    for path in paths:
        size = (root / path).stat().st_size
        if size > BLOB_BYTES and path not in LARGE_ALLOWED:
            yield Finding(path, 1, f"{size} bytes, {BLOB_BYTES} are the most")


# --- numbers --------------------------------------------------------------------------------------

def spread(numbers):
    """Median / 95th percentile / largest."""
    numbers = sorted(numbers) or [0]
    high = numbers[min(len(numbers) - 1, len(numbers) * 95 // 100)]
    return f"{statistics.median(numbers):.0f} / {high} / {numbers[-1]}"


def share(part, whole):
    return 100 * part / max(whole, 1)


def table_row(title, files, tests):
    lines = sum(len(f.lines) for f in files)
    lengths = [function.lines for f in files for function in f.functions]
    long = sum(length > FUNCTION_LINES for length in lengths)
    branches = sum(len(re.findall(r"^\s*#\s*if", f.code, re.M)) for f in files if f.is_cpp)
    comments = sum(f.comment_lines for f in files)
    test_lines = sum(len(f.lines) for f in tests)
    return (title, len(files), f"{lines / 1000:.1f}", spread([len(f.lines) for f in files]), spread(lengths),
            f"{share(long, len(lengths)):.1f} %", f"{share(comments, lines):.0f} %",
            f"{10 * share(branches, lines):.1f}", f"{share(test_lines, lines) / 100:.2f}" if tests else "")


def print_table(files):
    in_code = [f for f in files if f.is_cpp and not ANY_KIND.match(f.path)]
    sources, tests = [f for f in in_code if not f.is_test], [f for f in in_code if f.is_test]
    python = [f for f in files if f.suffix == ".py"]
    rows = [("", "files", "kLOC", "file med/p95/max", "function med/p95/max", "> 70", "comment", "#if/kLOC",
             "test:code"),
            table_row("C++", sources, tests), table_row("tests", tests, []), table_row("Python", python, [])]
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


# --- the whole ------------------------------------------------------------------------------------

def listed_files(root):
    """What git has or would add; in an unpacked archive, everything outside build/."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True)
    if listing.returncode == 0:
        paths = {p for p in listing.stdout.decode().split("\0") if p}
    else:
        paths = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
        paths = {p for p in paths if not re.match(r"(build|\.git)/|.*__pycache__/", p)}
    return sorted(p for p in paths if (root / p).is_file())


def read_texts(root, paths):
    for path in paths:
        suffix = pathlib.PurePath(path).suffix
        if suffix in TEXT or pathlib.PurePath(path).name in NO_SUFFIX or not suffix:
            yield File(path, (root / path).read_text(encoding="utf-8", errors="replace"))


def findings(root, paths, files):
    for file in files:
        for rule in FILE_RULES:
            yield from rule(file)
    texts = {file.path for file in files}
    for path in paths:
        if path not in texts:
            yield from check_kind(File(path, ""))
    yield from check_registry(files, "src/formats", "Format")
    yield from check_registry(files, "src/model/architectures", "Architecture")
    yield from check_cmake_options(files)
    yield from check_blobs(root, paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--quiet", action="store_true", help="print nothing but what breaks a rule")
    args = parser.parse_args()

    paths = listed_files(args.root)
    files = list(read_texts(args.root, paths))
    found = list(findings(args.root, paths, files))
    errors = [f for f in found if not f.warning]
    for finding in errors if args.quiet else found:
        print(finding)
    if not args.quiet:
        print_table(files)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
