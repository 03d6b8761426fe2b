#!/usr/bin/env python3
"""The table of docs/methods.md: method by format, by what it loses against the 16-bit model.

Quantizes a model in several ways, measures each file with fewbits eval on text that no method has seen, and on tasks,
and prints a Markdown table. Embedding and output are Q8_0 in every file, and files of one format have one size:

  nearest     layers in the format, rounded to nearest
  imatrix     the same, weighed by importance
  calibrated  the same, fitted with GPTQ
  awq         calibrated, columns scaled by AWQ's search
  learned     calibrated, and rounding learnt layer by layer
  mixed       formats chosen by measurement for the same bytes, then fitted; measured once for all sizes
  tuned       calibrated, then trained end to end

usage: quality.py --fewbits build/fewbits --model FOLDER --text TEST --calibrate TEXT... [--formats IQ4_NL Q4_0 ...]
                  [--methods nearest imatrix calibrated] [--tasks FILE...] [--samples 48] [--chunks 12] --work DIR
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
    parser.add_argument("--tasks", nargs="+", default=[], type=pathlib.Path, help="files that eval --task takes")
    parser.add_argument("--items", type=int, default=300, help="of each task")
    parser.add_argument("--learn", type=int, default=200, help="steps of learned rounding")
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


def importance_of(args):
    importance = args.work / "importance.gguf"
    if not importance.exists():
        fewbits(args, "calibrate", args.model, importance, "--text", *args.calibrate, *sampling(args))
    return importance


def costs_of(args):
    costs = args.work / "costs.json"
    if not costs.exists():
        fewbits(args, "calibrate", args.model, costs, "--sensitivity", "--text", *args.calibrate, "--samples", 2,
                "--sample-length", args.sample_length)
    return costs


def size_of(args, name):
    """Bytes of a file whose layers are all in one format."""
    return fewbits(args, "quantize", args.model, args.work / "none.gguf", *formats_of(name), "--dry-run")["bytes_out"]


def formats_of(name):
    return ["--to", name, "--pure", "--output", "Q8_0", "--embedding", "Q8_0"]


def options_of(args, name, method):
    calibrated = ["--calibrate", *args.calibrate, *sampling(args)]
    if method == "nearest":
        return formats_of(name)
    if method == "imatrix":
        return [*formats_of(name), "--imatrix", importance_of(args)]
    if method == "mixed":
        return ["--size", size_of(args, name), "--sensitivity", costs_of(args), "--output", "Q8_0", "--embedding",
                "Q8_0", *calibrated]
    extra = {"calibrated": [], "awq": ["--scale-columns", "awq"], "learned": ["--learn", args.learn],
             "tuned": ["--effort", 3]}
    return [*formats_of(name), *calibrated, *extra[method]]


def measure(args, name, method):
    """The facts of one file, kept in the work folder so that an interrupted table goes on."""
    kept = args.work / f"{name}-{method}-{args.samples}-{args.chunks}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    out = args.work / "quality.gguf"
    start = time.monotonic()
    written = fewbits(args, "quantize", args.model, out, *options_of(args, name, method))
    seconds = time.monotonic() - start
    loss = fewbits(args, "eval", out, "--against", args.model, "--text", args.text, "--chunks", args.chunks)
    facts = {"written": written, "seconds": seconds, "loss": loss, "bytes": out.stat().st_size, "tasks": []}
    for task in args.tasks:
        facts["tasks"] += fewbits(args, "eval", out, "--task", task, "--limit", args.items)["tasks"]
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


def row_of(args, name, method):
    facts = measure(args, name, method)
    loss = facts["loss"]
    cells = [name, method, f"{facts['bytes'] / 1e6:.1f}", f"{find(loss, 'perplexity'):.2f}",
             f"{find(loss, 'kl_mean'):.4f} ({find(loss, 'kl_low'):.4f} to {find(loss, 'kl_high'):.4f})",
             f"{100 * find(loss, 'top1_agreement'):.1f}"]
    for task in facts["tasks"]:
        low, high = find(task, "accuracy_low"), find(task, "accuracy_high")
        cells.append(f"{100 * find(task, 'accuracy'):.1f} ({100 * low:.1f} to {100 * high:.1f})")
    return cells + [f"{facts['seconds']:.0f}", f"{facts['written']['peak_memory_bytes'] / 1e6:.0f}"]


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    head = ["format", "method", "MB", "perplexity", "KL divergence (95 %)", "top-1 %"]
    head += [f"{task.stem} %" for task in args.tasks] + ["seconds", "peak MB"]
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for name in args.formats:
        for method in args.methods:
            print("| " + " | ".join(row_of(args, name, method)) + " |", flush=True)


if __name__ == "__main__":
    main()
