"""Each instruction-set object of src/kernels exports one symbol, its table, and no weak one.

A weak symbol is an inline function or a template that the linker may take from any object. Taken from avx512.cc.o, it
would bring AVX-512 instructions to every processor.
"""
import argparse
import pathlib
import re
import subprocess
import sys

INSTRUCTION_SETS = re.compile(r"(scalar|avx\w*|amx\w*|neon\w*|sve\w*)\.cc\.o$")


def symbols_of(nm, path):
    """(kind, name) of every symbol that the object defines for others."""
    listing = subprocess.run([nm, "--extern-only", "--defined-only", "--demangle", path],
                             check=True, capture_output=True, text=True).stdout
    return [tuple(line.split(" ", 2)[1:]) for line in listing.splitlines() if line]


def complaint_about(nm, path):
    symbols = symbols_of(nm, path)
    weak = [name for kind, name in symbols if kind in "wWvVu"]
    strong = [name for kind, name in symbols if kind not in "wWvVu"]
    if weak:
        return f"{len(weak)} weak symbols, the first is {weak[0]}"
    if len(strong) != 1:
        return f"{len(strong)} global symbols, one is wanted: {', '.join(strong)}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nm", default="nm")
    parser.add_argument("objects", nargs="+")
    args = parser.parse_args()

    objects = [o for part in args.objects for o in part.split(";") if INSTRUCTION_SETS.search(o)]
    if not any("scalar" in pathlib.Path(o).name for o in objects):
        sys.exit("no scalar.cc.o among the objects of src/kernels")
    complaints = {o: complaint_about(args.nm, o) for o in objects}
    for path, complaint in complaints.items():
        print(f"{pathlib.Path(path).name}: {complaint or 'ok'}")
    sys.exit(1 if any(complaints.values()) else 0)


if __name__ == "__main__":
    main()
