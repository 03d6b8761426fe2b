#!/usr/bin/env python3
"""Speed of `fewbits eval` beside what llama-perplexity does: windows of 512 tokens, the second half of each scored.

The peer's library reads the same windows and computes the logits that its program asks for; its softmax is left out,
in its favour, and so is its time to load. Ours is the difference of two runs, so that loading is left out as well.
The engines alternate; each figure is the best of several.

usage: build/peers/bin/python bench/eval_speed.py FILE.gguf [MORE.gguf ...] --text TEXT
           [--fewbits build/fewbits] [--threads 2] [--repeats 3] [--windows 8]
needs: llama-cpp-python (tools/install_packages.sh peers)
"""
import argparse
import os
import pathlib
import subprocess
import time

WINDOW = 512


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--fewbits", default="build/fewbits")
    for name, default in (("threads", 2), ("repeats", 3), ("windows", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def eval_seconds(args, path, windows):
    command = [args.fewbits, "eval", path, "--text", args.text, "--chunks", str(windows), "--threads",
               str(args.threads)]
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def fewbits_speed(args, path):
    seconds = eval_seconds(args, path, args.windows + 1) - eval_seconds(args, path, 1)
    return args.windows * WINDOW / seconds


class LlamaCpp:
    def __init__(self, args, path):
        import llama_cpp
        self.api = llama_cpp
        self.model = llama_cpp.Llama(str(path), n_ctx=WINDOW, n_batch=WINDOW, n_threads=args.threads,
                                     n_threads_batch=args.threads, logits_all=True, verbose=False)
        text = args.text.read_bytes()[:(args.windows + 1) * WINDOW * 8]
        self.tokens = self.model.tokenize(text, add_bos=False)

    def window(self, first):
        batch = self.api.llama_batch_init(WINDOW, 0, 1)
        batch.n_tokens = WINDOW
        for i, token in enumerate(self.tokens[first:first + WINDOW]):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, i, 1, 0
            batch.logits[i] = i >= WINDOW // 2
        return batch

    def speed(self, windows):
        batches = [self.window(i * WINDOW) for i in range(windows)]
        start = time.perf_counter()
        for batch in batches:
            self.api.llama_memory_clear(self.api.llama_get_memory(self.model.ctx), True)
            if self.api.llama_decode(self.model.ctx, batch) != 0:
                raise RuntimeError("llama_decode failed")
            self.api.llama_get_logits_ith(self.model.ctx, WINDOW - 1)
        seconds = time.perf_counter() - start
        for batch in batches:
            self.api.llama_batch_free(batch)
        return windows * WINDOW / seconds


def compare(args, path):
    peer = LlamaCpp(args, path)
    peer.speed(1)
    runs = [(fewbits_speed(args, path), peer.speed(args.windows)) for _ in range(args.repeats)]
    ours, theirs = (max(speeds) for speeds in zip(*runs))
    print(f"{path.stem:<24} {ours:>9.1f} {theirs:>9.1f} {ours / theirs:>6.2f}", flush=True)


def main():
    args = arguments()
    print(f"tokens per second, {args.threads} threads, best of {args.repeats}; load {os.getloadavg()[0]:.1f}; "
          f"FEWBITS_ISA={os.environ.get('FEWBITS_ISA', '(best)')}")
    print(f"{'file':<24} {'fewbits':>9} {'llama.cpp':>9} {'ratio':>6}")
    for path in args.files:
        compare(args, path)


if __name__ == "__main__":
    main()
