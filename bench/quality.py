#!/usr/bin/env python3
"""The table of docs/methods.md: method by format, by what it loses against the 16-bit model.

Quantizes a model in several ways, measures each file with fewbits eval on text that no method has seen, and prints a
Markdown table. Layers take the format named; embedding and output are Q8_0 in every file, so sizes are equal.

usage: quality.py --fewbits build/fewbits --model FOLDER --text TEST --calibrate TEXT... [--formats IQ4_NL Q4_0 ...]
                  [--methods nearest imatrix calibrated] [--samples 48] [--chunks 12] --work DIR
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewbits", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--text", required=True, type=pathlib.Path, help="to measure on")
    parser.add_argument("--calibrate", required=True, nargs="+", type=pathlib.Path, help="to calibrate on")
    parser.add_argument("--formats", nargs="+", default=["Q5_0", "IQ4_NL", "Q4_0"])
    parser.add_argument("--methods", nargs="+", default=["nearest", "imatrix", "calibrated"])
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--sample-length", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    return parser.parse_args()


def fewbits(args, *words):
    command = [str(args.fewbits)] + [str(word) for word in words] + ["--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if result.returncode != 0:
        sys.exit(f"exit {result.returncode}: {' '.join(command)}")
    return json.loads(result.stdout)


def sampling(args):
    return ["--samples", args.samples, "--sample-length", args.sample_length]


def options_of(args, method):
    if method == "imatrix":
        importance = args.work / "importance.gguf"
        if not importance.exists():
            fewbits(args, "calibrate", args.model, importance, "--text", *args.calibrate, *sampling(args))
        return ["--imatrix", importance]
    if method == "calibrated":
        return ["--calibrate", *args.calibrate, *sampling(args)]
    return []


def measure(args, name, method):
    """The facts of one file, kept in the work folder so that an interrupted table goes on."""
    kept = args.work / f"{name}-{method}-{args.samples}-{args.chunks}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    out = args.work / "quality.gguf"
    start = time.monotonic()
    written = fewbits(args, "quantize", args.model, out, "--to", name, "--pure", "--output", "Q8_0", "--embedding",
                      "Q8_0", *options_of(args, method))
    seconds = time.monotonic() - start
    loss = fewbits(args, "eval", out, "--against", args.model, "--text", args.text, "--chunks", args.chunks)
    facts = {"written": written, "seconds": seconds, "loss": loss}
    kept.write_text(json.dumps(facts))
    out.unlink()
    return facts


def find(facts, key):
    """The value of a key at any depth."""
    if isinstance(facts, dict):
        if key in facts:
            return facts[key]
        return next((found for found in (find(value, key) for value in facts.values()) if found is not None), None)
    return None


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    print("| format | method | MB | KL divergence (95 %) | top-1 % | seconds | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in args.formats:
        for method in args.methods:
            facts = measure(args, name, method)
            loss, written = facts["loss"], facts["written"]
            print(f"| {name} | {method} | {written['bytes_out'] / 1e6:.1f} "
                  f"| {find(loss, 'kl_mean'):.4f} ({find(loss, 'kl_low'):.4f} to {find(loss, 'kl_high'):.4f}) "
                  f"| {100 * find(loss, 'top1_agreement'):.1f} | {facts['seconds']:.0f} "
                  f"| {written['peak_memory_bytes'] / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
