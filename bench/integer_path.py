#!/usr/bin/env python3
"""What integer arithmetic adds to what a file's rounding lost, for fewbits and for llama.cpp.

Both round the inputs of a quantized matrix to int8 and multiply integers. The reference is the same file computed in
floats; the table has the KL divergence of the predictions from it, with the interval of the pairs of windows.

usage: build/peers/bin/python bench/integer_path.py FILE.gguf [MORE.gguf ...] --text TEST
           [--fewbits build/fewbits] [--threads 2] [--windows 6] [--length 256]
needs: llama-cpp-python (tools/install_packages.sh peers), build/tests/logits
"""
import argparse
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np

from intervals import ratio


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--text", required=True, type=pathlib.Path)
    parser.add_argument("--fewbits", default=pathlib.Path("build/fewbits"), type=pathlib.Path)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--windows", default=6, type=int)
    parser.add_argument("--length", default=256, type=int)
    return parser.parse_args()


def our_logits(args, file, tokens, *options):
    with tempfile.NamedTemporaryFile() as out:
        program = args.fewbits.parent / "tests" / "logits"
        subprocess.run([str(word) for word in (program, file, out.name, *options, *tokens)], check=True)
        return np.fromfile(out.name, "<f4").reshape(len(tokens), -1)


class LlamaCpp:
    def __init__(self, args, file):
        import llama_cpp
        self.model = llama_cpp.Llama(str(file), n_ctx=args.length, n_batch=args.length, n_threads=args.threads,
                                     n_threads_batch=args.threads, logits_all=True, verbose=False)

    def windows(self, args):
        text = args.text.read_bytes()[:args.windows * args.length * 8]
        ids = self.model.tokenize(text, add_bos=False)
        return [ids[i * args.length:(i + 1) * args.length] for i in range(args.windows)]

    def logits(self, tokens):
        self.model.reset()
        self.model.eval(tokens)
        return np.array(self.model.scores[:len(tokens)], dtype=np.float32)


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(wanted, found):
    """Mean over tokens, in nats."""
    found = log_softmax(found)
    return float((np.exp(wanted) * (wanted - found)).sum(axis=1).mean())


def compare(args, file):
    peer = LlamaCpp(args, file)
    ours, theirs = [], []
    for tokens in peer.windows(args):
        wanted = log_softmax(our_logits(args, file, tokens, "--float"))
        ours.append(divergence(wanted, our_logits(args, file, tokens)))
        theirs.append(divergence(wanted, peer.logits(tokens)))
    print(f"| {file.stem} | {statistics.fmean(ours):.4f} | {statistics.fmean(theirs):.4f} | {ratio(theirs, ours)} |",
          flush=True)


def main():
    args = arguments()
    print("| file | integers against floats | llama.cpp | ratio (95 %) |\n| --- | --- | --- | --- |")
    for file in args.files:
        compare(args, file)


if __name__ == "__main__":
    main()
