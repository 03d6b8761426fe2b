#!/usr/bin/env python3
"""Time and error of quantizing, beside llama.cpp's own quantizer: the same source, the same type in all matrices.

Both run with the same number of threads, in turn, without importance; processor seconds are of the whole run, reading
and writing included. The error is the sum of squared errors over the sum of squares, of all matrices.

usage: build/peers/bin/python bench/quantizer_speed.py F16.gguf [--types Q4_K ...] [--fewbits build/fewbits]
           [--threads 2] [--work DIR]
needs: llama-cpp-python (tools/install_packages.sh peers)
"""
import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys

import stock_quantizer

TYPES = ["Q8_0", "Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]
# In a process of its own, so that its time can be told apart.
STOCK = pathlib.Path(__file__).with_name("stock_quantizer.py")


def timed(command):
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def error_of(args, path):
    """Over all matrices, as fewbits measures both files."""
    command = [args.fewbits, "inspect", path, "--against", args.model, "--json"]
    tensors = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["tensors"]
    matrices = [tensor for tensor in tensors if len(tensor["shape"]) > 1]
    squares = [tensor["rms"] ** 2 * math.prod(tensor["shape"]) for tensor in matrices]
    return sum(tensor["relative_error"] * square for tensor, square in zip(matrices, squares)) / sum(squares)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="an F16 .gguf")
    parser.add_argument("--types", nargs="+", default=TYPES, choices=TYPES)
    parser.add_argument("--fewbits", default="build/fewbits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/quantizer_speed"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    size = args.model.stat().st_size
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print("| type | CPU s | llama.cpp | ratio | MB of F16 a CPU s | error | llama.cpp |")
    print("| --- " * 7 + "|")
    for name in args.types:
        ours, theirs = args.work / "ours.gguf", args.work / "theirs.gguf"
        spent = timed([args.fewbits, "quantize", args.model, ours, "--to", stock_quantizer.mix_of(name), "--pure",
                       "--restart", "--threads", args.threads, "--no-verify", "--no-certificate"])
        spent_by_peer = timed([sys.executable, STOCK, args.model, theirs, name, args.threads])
        print(f"| {name} | {spent:.2f} | {spent_by_peer:.2f} | {spent_by_peer / spent:.1f} | {size / spent / 1e6:.0f} |"
              f" {error_of(args, ours):.3e} | {error_of(args, theirs):.3e} |", flush=True)
        ours.unlink()
        theirs.unlink()


if __name__ == "__main__":
    main()
