#!/usr/bin/env python3
"""The tables of docs/methods.md: method by format, by what it loses against the 16-bit model.

Quantizes a model in several ways, measures each file with fewbits eval on text that no method has seen, and on tasks,
and prints a Markdown table. Embedding and output are Q8_0 in every file. A format is a type of all layers (Q4_0), a mix
(Q4_K_M), a size of which formats are chosen (105.5MB), a format of ours that is emulated in 16 bits (int4_g128), or a
type of some tensors, all others in Q8_0 (Q4_K@*ffn_down*). Methods:

  stock       llama.cpp's own quantizer with importance from the same text (PyPI llama-cpp-python)
  nearest     rounded to nearest
  imatrix     the same, weighed by importance
  unscaled    fitted with GPTQ
  balanced    fitted, columns scaled by a rule
  calibrated  fitted, columns scaled by AWQ's search: what --calibrate does
  learned     calibrated, and rounding learnt layer by layer
  mixed       formats chosen by measurement for the bytes of this format, then calibrated; measured once for all sizes
  tuned       calibrated, then trained end to end

The ratio is of the divergence of the format's first method to this one's, on the same windows, with the interval of
the pairs.

usage: quality.py --fewbits build/fewbits --model FOLDER --text TEST --calibrate TEXT... [--formats IQ4_NL Q4_0 ...]
                  [--methods nearest imatrix calibrated] [--tasks FILE...] [--samples 128] [--chunks 60] --work DIR
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import time

import stock_quantizer
from intervals import ratio

MIXES = {"Q2_K_M": "Q2_K"}  # llama.cpp calls a mix as its main format


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
    parser.add_argument("--learn", type=int, default=64, help="steps of learned rounding")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--sample-length", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=60, help="windows of the test text")
    parser.add_argument("--work", required=True, type=pathlib.Path)
    return parser.parse_args()


def fewbits(args, *words):
    command = [str(args.fewbits)] + [str(word) for word in words] + ["--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"exit {result.returncode}: {' '.join(command)}\n{result.stderr[-2000:]}")
    return json.loads(result.stdout)


def sampling(args):
    return ["--samples", args.samples, "--sample-length", args.sample_length]


def once(path, make):
    """The file, made where it is missing."""
    if not path.exists():
        make(path)
    return path


def importance_of(args):
    return once(args.work / "importance.gguf", lambda out: fewbits(
        args, "calibrate", args.model, out, "--text", *args.calibrate, *sampling(args)))


def costs_of(args):
    return once(args.work / "costs.json", lambda out: fewbits(
        args, "calibrate", args.model, out, "--sensitivity", "--text", *args.calibrate, "--samples", 2,
        "--sample-length", args.sample_length))


def size_of(args, name):
    """Bytes of a file in this format."""
    if name.endswith("MB"):
        return round(float(name[:-2]) * 1e6)
    return fewbits(args, "quantize", args.model, args.work / "none.gguf", *formats_of(name), "--dry-run")["bytes_out"]


def formats_of(name):
    ends = ["--output", "Q8_0", "--embedding", "Q8_0"]
    if name.endswith("MB"):
        return ends
    if name[0].islower():
        return ["--emulate", name, *ends]
    if "@" in name:
        inner, glob = name.split("@")
        return ["--to", "Q8_0", "--tensor", f"{glob}={inner}", *ends]
    if name in MIXES or name.endswith(("_M", "_S", "_L")):
        return ["--to", MIXES.get(name, name), *ends]
    return ["--to", stock_quantizer.mix_of(name), "--pure", *ends]


def options_of(args, name, method):
    calibrated = ["--calibrate", *args.calibrate, *sampling(args)]
    if method == "nearest":
        return formats_of(name)
    if method == "imatrix":
        return [*formats_of(name), "--imatrix", importance_of(args)]
    if method == "mixed":
        return ["--size", size_of(args, name), "--sensitivity", costs_of(args), "--output", "Q8_0", "--embedding",
                "Q8_0", *calibrated]
    extra = {"unscaled": ["--scale-columns", "none"], "balanced": ["--scale-columns", "balanced"], "calibrated": [],
             "learned": ["--learn", args.learn], "tuned": ["--effort", 3]}
    return [*formats_of(name), *calibrated, *extra[method]]


def stock_importance(path):
    """What llama-quantize takes from the file: the mean square of each input, by matrix."""
    import gguf
    import llama_cpp
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    entries, kept = [], []
    for name, sums in tensors.items():
        if not name.endswith(".in_sum2"):
            continue
        matrix = name.removesuffix(".in_sum2")
        values = (sums.reshape(-1) / tensors[f"{matrix}.counts"].reshape(-1)[0]).astype("float32")
        kept.append(values)
        entries.append(llama_cpp.llama_model_imatrix_data(
            matrix.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), values.size))
    entries.append(llama_cpp.llama_model_imatrix_data(None, None, 0))
    return (llama_cpp.llama_model_imatrix_data * len(entries))(*entries), kept


def quantize_stock(args, name, out):
    source = once(args.work / "f16.gguf", lambda path: fewbits(args, "quantize", args.model, path, "--to", "F16"))
    importance, kept = stock_importance(importance_of(args))
    mixed = name.endswith("_M")
    if not stock_quantizer.quantize(source, out, name.removesuffix("_M"), "Q8_0", pure=not mixed,
                                    importance=importance):
        sys.exit(f"llama.cpp could not write {name}")
    del kept
    return {}


def write(args, name, method, out):
    if method == "stock":
        return quantize_stock(args, name, out)
    return fewbits(args, "quantize", args.model, out, "--restart", *options_of(args, name, method))


def kept_facts(args, *name):
    """Where facts stay in the work folder, so that an interrupted table goes on."""
    tasks = [f"{args.items}-of-{task.stem}" for task in args.tasks]
    return args.work / ("-".join([*name, str(args.samples), str(args.chunks), *tasks]) + ".json")


def measure_tasks(args, model):
    return [facts for task in args.tasks
            for facts in fewbits(args, "eval", model, "--task", task, "--limit", args.items)["tasks"]]


def measure(args, name, method):
    """The facts of one file."""
    kept = kept_facts(args, name.replace("*", ""), method)
    if kept.exists():
        return json.loads(kept.read_text())
    out = args.work / "quality.gguf"
    start = time.monotonic()
    written = write(args, name, method, out)
    seconds = time.monotonic() - start
    loss = fewbits(args, "eval", out, "--against", args.model, "--text", args.text, "--chunks", args.chunks)
    facts = {"written": written, "seconds": seconds, "loss": loss, "bytes": out.stat().st_size,
             "tasks": measure_tasks(args, out)}
    kept.write_text(json.dumps(facts))
    out.unlink()
    return facts


def accuracies(tasks):
    return [f"{100 * task['accuracy']:.1f} ({100 * task['accuracy_low']:.1f} to {100 * task['accuracy_high']:.1f})"
            for task in tasks]


def row_of_original(args):
    """What the tasks' accuracies are to be compared with."""
    kept = once(kept_facts(args, "original"),
                lambda path: path.write_text(json.dumps(measure_tasks(args, args.model))))
    return ["as it is", *[""] * 6, *accuracies(json.loads(kept.read_text())), "", ""]


def row_of(args, name, method, first):
    facts = measure(args, name, method)
    loss = facts["loss"]
    cells = [name, method, f"{facts['bytes'] / 1e6:.1f}", f"{loss['perplexity']:.2f}",
             f"{loss['kl_mean']:.4f} ({loss['kl_low']:.4f} to {loss['kl_high']:.4f})",
             ratio(first["loss"]["kl_windows"], loss["kl_windows"]) if facts != first else "",
             f"{100 * loss['top1_agreement']:.1f}"]
    cells += accuracies(facts["tasks"])
    memory = facts["written"].get("peak_memory_bytes")
    return cells + [f"{facts['seconds']:.0f}", f"{memory / 1e6:.0f}" if memory else ""]


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    head = ["format", "method", "MB", "perplexity", "KL divergence (95 %)", "ratio", "top-1 %"]
    head += [f"{task.stem} %" for task in args.tasks] + ["seconds", "peak MB"]
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    if args.tasks:
        print("| " + " | ".join(row_of_original(args)) + " |", flush=True)
    for name in args.formats:
        first = measure(args, name, args.methods[0])
        for method in args.methods:
            print("| " + " | ".join(row_of(args, name, method, first)) + " |", flush=True)


if __name__ == "__main__":
    main()
