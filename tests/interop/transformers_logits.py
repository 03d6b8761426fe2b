#!/usr/bin/env python3
"""Every architecture against transformers: tiny random folders as it writes them, logits (of encoders: hidden states)
compared, from the folder and from the GGUF that fewbits makes of it.

Names, row orders and config keys come from transformers alone: the model is made by from_config and saved by
save_pretrained; only its values are replaced, by numbers that follow from a tensor's name. So a case is its config, the
shapes and the last row of logits: tests/golden/engine/transformers keeps those (--golden writes them), and
src/engine/transformers_test.cc makes the same folder of them.

usage: transformers_logits.py --fewbits PROGRAM --work DIR [--golden DIR] [NAME...]
needs: torch transformers safetensors (build/interop-venv: tools/install_packages.sh interop, run by its `run`)
"""
import json
import math
import os
import shutil
import sys

os.environ.pop("LD_PRELOAD", None)

import common  # noqa: E402
from architectures import tokenizer  # noqa: E402

VOCABULARY, TOKENS = 288, 40
BOUND = 2e-3  # largest difference over largest value: keys and values in halves
TINY = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0}
WINDOW = {"sliding_window": 8}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 128, "bos_token_id": 1,
        "eos_token_id": 2}
PLAIN = {key: TINY[key] for key in TINY if key not in ("intermediate_size", "num_key_value_heads")}
DEEPSEEK = {"intermediate_size": 80, "num_hidden_layers": 3, "q_lora_rank": None, "kv_lora_rank": 32,
            "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 6,
            "num_experts_per_tok": 3, "moe_intermediate_size": 16, "n_shared_experts": 2, "first_k_dense_replace": 1,
            "routed_scaling_factor": 1.5}
BERT = {**PLAIN, "intermediate_size": 80, "type_vocab_size": 2}


def rope(kind, **parameters):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **parameters}}


def longrope(original):
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.0, 2.0, 5.0, 9.0]}
    return {"original_max_position_embeddings": original,
            **rope("longrope", original_max_position_embeddings=original, **factors)}


# model_type, and what stands in the config beside TINY (or instead of it).
CASES = {
    "llama": ("llama", {**TINY, **rope("default", rope_theta=500000.0)}),
    "llama3": ("llama", {**TINY, **rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                        original_max_position_embeddings=64)}),
    "llama_tied": ("llama", {**TINY, "tie_word_embeddings": True, "head_dim": 16}),
    "llama_linear": ("llama", {**TINY, **rope("linear", factor=2.5)}),
    "llama_yarn": ("llama", {**TINY, "head_dim": 32, **rope("yarn", factor=4.0, original_max_position_embeddings=32)}),
    "qwen2_yarn": ("qwen2", {**TINY, "head_dim": 32, "use_sliding_window": False, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=8.0, attention_factor=1.3)}),
    "mistral": ("mistral", {**TINY, **WINDOW}),
    "mixtral": ("mixtral", {**TINY, "num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen2": ("qwen2", {**TINY, **WINDOW, "use_sliding_window": False}),
    "qwen3": ("qwen3", {**TINY, "head_dim": 16}),
    "qwen3_moe": ("qwen3_moe", {**TINY, "head_dim": 16, "num_experts": 6, "num_experts_per_tok": 3,
                                "moe_intermediate_size": 32, "norm_topk_prob": True}),
    "gemma2": ("gemma2", {**TINY, **WINDOW, "head_dim": 16, "query_pre_attn_scalar": 20,
                          "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {**TINY, **WINDOW, "head_dim": 16, "num_hidden_layers": 7,
                               "query_pre_attn_scalar": 20}),
    "phi3": ("phi3", {**TINY, **WINDOW, "partial_rotary_factor": 0.5}),
    "phi3_short": ("phi3", {**TINY, **longrope(64)}),
    "phi3_long": ("phi3", {**TINY, **longrope(16)}),
    "olmo2": ("olmo2", {**TINY}),
    "olmo3": ("olmo3", {**TINY, **WINDOW, "num_hidden_layers": 5}),
    "olmo3_yarn": ("olmo3", {**TINY, **WINDOW, "num_hidden_layers": 5, "rope_parameters": {
        "full_attention": rope("yarn", factor=4.0, original_max_position_embeddings=32)["rope_parameters"],
        "sliding_attention": rope("default")["rope_parameters"]}}),
    "granite": ("granite", {**TINY, "embedding_multiplier": 3.0, "residual_multiplier": 0.3,
                            "attention_multiplier": 0.2, "logits_scaling": 5.0}),
    "stablelm": ("stablelm", {**TINY, "partial_rotary_factor": 0.25, "use_qkv_bias": True}),
    "stablelm_12b": ("stablelm", {**TINY, "partial_rotary_factor": 0.25, "use_parallel_residual": True,
                                  "qk_layernorm": True}),
    "falcon_7b": ("falcon", {**PLAIN, "num_kv_heads": 1}),
    "falcon_40b": ("falcon", {**PLAIN, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "falcon_11b": ("falcon", {**PLAIN, "num_kv_heads": 2, "new_decoder_architecture": True,
                              "num_ln_in_parallel_attn": 1}),
    "gpt2": ("gpt2", GPT2),
    "falcon_old": ("falcon", {**PLAIN, "multi_query": False}),
    "opt": ("opt", {**PLAIN, "ffn_dim": 80, "word_embed_proj_dim": 48}),
    "deepseek_v2": ("deepseek_v2", {**PLAIN, **DEEPSEEK, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=32, mscale=0.707, mscale_all_dim=0.707)}),
    "deepseek_v2_plain": ("deepseek_v2", {**PLAIN, **DEEPSEEK}),
    "modernbert": ("modernbert", {**PLAIN, "intermediate_size": 80, "num_hidden_layers": 5, "local_attention": 8,
                                  "cls_token_id": 1, "sep_token_id": 2}),
    "bert": ("bert", BERT),
    "roberta": ("roberta", {**BERT, "pad_token_id": 1, "max_position_embeddings": 130}),
    "xlm_roberta": ("xlm-roberta", {**BERT, "pad_token_id": 1, "max_position_embeddings": 130}),
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert")


def spread_of(name, shape, norms_around_one):
    """(mean, deviation) of a tensor's values: such that every part of the model matters."""
    if len(shape) == 1:
        gain = name.endswith("weight") and not norms_around_one
        return (1.0 if gain else 0.0), 0.25
    if any(part in name for part in ("embed", "wte", "wpe")):
        return 0.0, 1.0
    return 0.0, shape[-1]**-0.5


def values_of(name, shape, mean, deviation):
    """Evenly spread numbers from a counter through SplitMix64's mixer, which begins at the name's FNV-1a hash."""
    import numpy as np
    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(hashed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    unit = ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return (mean + deviation * math.sqrt(3) * unit).astype(np.float32).reshape(shape)


def save(name, folder):
    """The case's folder, and for each tensor its shape, mean and deviation."""
    import safetensors.numpy
    import transformers
    model_type, settings = CASES[name]
    shutil.rmtree(folder, ignore_errors=True)
    auto = transformers.AutoModel if model_type in ENCODERS else transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.for_model(model_type, **settings)
    auto.from_config(config).save_pretrained(folder)
    file = folder / "model.safetensors"
    around_one = model_type.startswith("gemma")
    described = {}
    for tensor, values in sorted(safetensors.numpy.load_file(file).items()):
        described[tensor] = [list(values.shape), *spread_of(tensor, values.shape, around_one)]
    safetensors.numpy.save_file({tensor: values_of(tensor, *how) for tensor, how in described.items()}, file,
                                metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    return auto, described


def tokens_of(name):
    return [(17 * i * i + 31 * i + 5) % (VOCABULARY - 8) + 3 for i in range(TOKENS)]


def their_output(auto, folder, tokens):
    import torch
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        output = model(torch.tensor([tokens]))
    return (output.logits if hasattr(output, "logits") else output.last_hidden_state)[0].double().numpy()


def our_output(args, path, tokens, encoder):
    import numpy as np
    out = args.work / "transformers-logits.bin"
    options = ["--states"] if encoder else []
    common.run([args.fewbits.parent / "tests" / "logits", path, out, "--float", *options, *tokens])
    return np.fromfile(out, dtype="<f4").reshape(len(tokens), -1).astype(np.float64)


def write_golden(folder, path, tokens, described, output):
    row = [float(f"{x:.4g}") for x in output[-1]]
    config = json.loads((folder / "config.json").read_text())
    content = {"config": config, "tokens": tokens, "tensors": described, "last_row": row}
    lines = [f' "{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def check_case(args, name, golden):
    import numpy as np
    encoder = CASES[name][0] in ENCODERS
    folder = args.work / f"transformers-{name.replace('phi3', 'phi-3')}"
    auto, described = save(name, folder)
    tokens = tokens_of(name)
    theirs = their_output(auto, folder, tokens)
    gguf = folder / "f32.gguf"
    distances = []
    try:
        distances.append(np.abs(our_output(args, folder, tokens, encoder) - theirs).max() / np.abs(theirs).max())
        common.run([args.fewbits, "quantize", folder, gguf, "--to", "F32"], stderr=common.subprocess.DEVNULL)
        distances.append(np.abs(our_output(args, gguf, tokens, encoder) - theirs).max() / np.abs(theirs).max())
    except SystemExit as failure:
        print(f"{name:<14} FAILED: {failure}", flush=True)
        return False
    ok = max(distances) <= BOUND
    print(f"{name:<14} from the folder {distances[0]:.1e}, from GGUF {distances[1]:.1e}{'' if ok else '   TOO FAR'}",
          flush=True)
    if golden and ok:
        write_golden(folder, golden / f"{name}.json", tokens, described, theirs)
    return ok


def main():
    names = [word for word in sys.argv[1:] if word in CASES]
    sys.argv = [word for word in sys.argv if word not in CASES]
    golden = None
    if "--golden" in sys.argv:
        place = sys.argv.index("--golden")
        golden = common.pathlib.Path(sys.argv[place + 1])
        golden.mkdir(parents=True, exist_ok=True)
        del sys.argv[place:place + 2]
    args = common.arguments(__doc__)
    try:
        import torch
        import transformers
    except ImportError as error:
        common.skip(f"{error} (tools/install_packages.sh interop)")
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    failed = [name for name in names or CASES if not check_case(args, name, golden)]
    sys.exit(f"differ: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
