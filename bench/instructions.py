#!/usr/bin/env python3
"""Instructions of the main kernels, counted by callgrind: they depend on no other load.

For each format and number of tokens: instructions a multiply-add, everything counted (scales, sums, unpacking to bytes,
rounding of the inputs). A vector of AVX2 multiplies 32 bytes, so .0313 is one instruction a vector. The product runs
once and three times, and half of what that differs by is one product without what comes before. callgrind knows AVX2,
and no AVX-512.

usage: bench/instructions.py [FORMAT ...] [--bench build/bench/instructions_bench]
needs: apt-get install valgrind
"""
import argparse
import os
import re
import subprocess

FORMATS = ("F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q4_0", "IQ4_XS", "MXFP4", "NVFP4")
TOKENS = (1, 8, 64)
MULTIPLICATIONS = 256 * 1024  # for each token: instructions_bench.cc's matrix


def instructions(bench, name, tokens, times):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", bench, name, str(tokens), str(times)]
    environment = {**os.environ, "FEWBITS_ISA": "avx2"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", result.stderr).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--bench", default="build/bench/instructions_bench")
    args = parser.parse_args()
    print("| instructions a multiply-add | " + " | ".join(f"{tokens} tokens" for tokens in TOKENS) + " |")
    print("| --- |" + " ---: |" * len(TOKENS))
    for name in args.formats:
        cells = []
        for tokens in TOKENS:
            twice = instructions(args.bench, name, tokens, 3) - instructions(args.bench, name, tokens, 1)
            cells.append(f"{twice / 2 / tokens / MULTIPLICATIONS:.4f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
