#!/usr/bin/env python3
"""Prefill and decode speed of fewbits beside stock llama.cpp: the same files, the same number of threads, in turn.

Engines that wait by spinning lose much when anything else runs, so each figure is the best of several short runs and
the two engines alternate; the load average is printed with the table. A long --prompt shows decoding behind a long
context.

usage: build/peers/bin/python bench/against_llama_cpp.py FILE.gguf [MORE.gguf ...]
           [--fewbits build/fewbits] [--threads 2] [--repeats 3] [--prompt 512] [--tokens 32]
needs: llama-cpp-python (tools/install_packages.sh peers)
"""
import argparse
import json
import os
import pathlib
import subprocess
import time

WORDS = "the quick brown fox jumps over the lazy dog while seven wise men measure the speed of light "


def prompt_text(tokens):
    return (WORDS * tokens)[:tokens * 4]


def fewbits_speed(args, path):
    command = [args.fewbits, "run", path, prompt_text(args.prompt), "-n", str(args.tokens), "--temperature", "1",
               "--threads", str(args.threads), "--json"]
    facts = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return facts["prefill_tokens_per_second"], facts["decode_tokens_per_second"], facts["prompt_tokens"]


class LlamaCpp:
    def __init__(self, path, threads, context):
        import llama_cpp
        self.model = llama_cpp.Llama(str(path), n_ctx=context, n_batch=512, n_threads=threads,
                                     n_threads_batch=threads, verbose=False)

    def speed(self, prompt, tokens):
        ids = self.model.tokenize(prompt_text(prompt).encode())
        self.model.reset()
        start = time.perf_counter()
        self.model.eval(ids)
        middle = time.perf_counter()
        for token in ids[:tokens]:
            self.model.eval([token])
        return len(ids) / (middle - start), tokens / (time.perf_counter() - middle)


def compare(args, path):
    # Our prompt's tokens and theirs may differ by a few; WORDS have about one token each.
    peer = LlamaCpp(path, args.threads, 2 * args.prompt + args.tokens)
    ours, theirs = [], []
    for _ in range(args.repeats):
        ours.append(fewbits_speed(args, path))
        theirs.append(peer.speed(args.prompt, args.tokens))
    best = [max(run[i] for run in ours) for i in (0, 1)], [max(run[i] for run in theirs) for i in (0, 1)]
    print(f"{path.stem:<24} {ours[0][2]:>5} {best[0][0]:>9.1f} {best[1][0]:>9.1f} {best[0][0] / best[1][0]:>6.2f}"
          f" {best[0][1]:>9.1f} {best[1][1]:>9.1f} {best[0][1] / best[1][1]:>6.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--fewbits", default="build/fewbits")
    for name, default in (("threads", 2), ("repeats", 3), ("prompt", 512), ("tokens", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    print(f"tokens per second, {args.threads} threads, best of {args.repeats}; load {os.getloadavg()[0]:.1f}; "
          f"FEWBITS_ISA={os.environ.get('FEWBITS_ISA', '(best)')}")
    print(f"{'file':<24} {'tokens':>5} {'prefill':>9} {'llama.cpp':>9} {'ratio':>6} {'decode':>9} {'llama.cpp':>9}"
          f" {'ratio':>6}")
    for path in args.files:
        compare(args, path)


if __name__ == "__main__":
    main()
