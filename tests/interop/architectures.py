#!/usr/bin/env python3
"""Every architecture against stock llama.cpp: small random folders in, GGUF out, logits compared.

Each case writes a seeded random folder as transformers names its tensors. fewbits makes a GGUF of it in F32 and in
Q8_0; stock llama.cpp must load both. From the folder and from the F32 file fewbits must give llama.cpp's logits.
Whether the folder was understood at all is what the unit tests' naive forward pass says.

usage: architectures.py --fewbits PROGRAM --work DIR [NAME...]
needs: numpy safetensors llama-cpp-python
"""
import json
import shutil
import sys

import common

TOKENS = 70  # more than three windows
WINDOW = 20
# Largest difference over largest logit: the cache in halves, and llama.cpp's GELU from a table of halves.
BOUND, GELU_BOUND = 2e-3, 6e-3
# In Q8_0 both round activations to 8 bits, each in its own way: neither may stand much farther from F32 than the other.
NOISE_RATIO, NOISE_FLOOR = 1.5, 1e-3

HIDDEN, FFN, HEADS, KV_HEADS, LAYERS, CONTEXT, VOCABULARY = 64, 96, 4, 2, 3, 256, 290


def tokenizer():
    vocabulary = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581"]
    vocabulary += [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    special = [{"id": i, "content": vocabulary[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(3)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "merges": [],
                  "vocab": {token: i for i, token in enumerate(vocabulary)}}}


class Checkpoint:
    """Names and shapes of one architecture's tensors. Everything starts from llama's."""

    def __init__(self, model_type, **config):
        self.config = {"model_type": model_type, "hidden_size": HIDDEN, "intermediate_size": FFN,
                       "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
                       "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6,
                       "rope_theta": 10000.0, "tie_word_embeddings": False}
        self.config.update(config)
        self.shapes = {}
        self.bound = BOUND
        self.centre = 1.0  # of norm gains

    def head_dim(self):
        return self.config.get("head_dim", HIDDEN // HEADS)

    def add(self, name, *shape):
        self.shapes[name] = shape

    def ends(self):
        self.add("model.embed_tokens.weight", VOCABULARY, HIDDEN)
        self.add("model.norm.weight", HIDDEN)
        if not self.config["tie_word_embeddings"]:
            self.add("lm_head.weight", VOCABULARY, HIDDEN)

    def norms(self, *names):
        for layer in self.layers():
            for name in names:
                self.add(f"{layer}.{name}.weight", HIDDEN)

    def attention(self, bias=False, suffix=".weight"):
        dim = self.head_dim()
        for layer in self.layers():
            for part, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
                self.add(f"{layer}.self_attn.{part}_proj{suffix}", rows * dim, HIDDEN)
                if bias:
                    self.add(f"{layer}.self_attn.{part}_proj.bias", rows * dim)
            self.add(f"{layer}.self_attn.o_proj.weight", HIDDEN, HEADS * dim)

    def mlp(self, prefix="mlp", names=("gate_proj", "up_proj", "down_proj"), ffn=FFN):
        for layer in self.layers():
            self.add(f"{layer}.{prefix}.{names[0]}.weight", ffn, HIDDEN)
            self.add(f"{layer}.{prefix}.{names[1]}.weight", ffn, HIDDEN)
            self.add(f"{layer}.{prefix}.{names[2]}.weight", HIDDEN, ffn)

    def head_norms(self, *shapes):
        for layer in self.layers():
            for part, shape in zip("qk", shapes):
                self.add(f"{layer}.self_attn.{part}_norm.weight", shape)

    def layers(self):
        return [f"model.layers.{layer}" for layer in range(self.config["num_hidden_layers"])]

    def write(self, folder):
        import numpy as np
        import safetensors.numpy
        random = np.random.default_rng(5)
        tensors = {}
        for name, shape in self.shapes.items():
            if len(shape) == 1:
                centre = self.centre if name.endswith("weight") else 0.0
                values = centre + 0.2 * random.standard_normal(shape)
            else:
                values = random.standard_normal(shape) * (1 if "embed" in name or "wte" in name else shape[-1]**-0.5)
            tensors[name] = values.astype(np.float32)
        folder.mkdir(parents=True)
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
        return folder


def llama_like(model_type, bias=False, **config):
    case = Checkpoint(model_type, **config)
    case.ends()
    case.norms("input_layernorm", "post_attention_layernorm")
    case.attention(bias)
    case.mlp()
    return case


def qwen3():
    case = llama_like("qwen3", head_dim=32)
    case.head_norms(32, 32)
    return case


def moe(model_type, ffn, router, prefix, names, **config):
    case = Checkpoint(model_type, **config)
    case.ends()
    case.norms("input_layernorm", "post_attention_layernorm")
    case.attention()
    for layer in case.layers():
        case.add(f"{layer}.{router}.weight", 8, HIDDEN)
    for expert in range(8):
        case.mlp(f"{prefix}.{expert}", names, ffn)
    return case


def mixtral():
    return moe("mixtral", FFN, "block_sparse_moe.gate", "block_sparse_moe.experts", ("w1", "w3", "w2"),
               num_local_experts=8, num_experts_per_tok=2)


def qwen3_moe():
    case = moe("qwen3_moe", 64, "mlp.gate", "mlp.experts", ("gate_proj", "up_proj", "down_proj"), num_experts=8,
               num_experts_per_tok=3, moe_intermediate_size=64, norm_topk_prob=True, head_dim=32)
    case.head_norms(32, 32)
    return case


def gemma(model_type, layers, **config):
    case = Checkpoint(model_type, head_dim=32, num_hidden_layers=layers, tie_word_embeddings=True,
                      hidden_activation="gelu_pytorch_tanh", sliding_window=WINDOW, query_pre_attn_scalar=32, **config)
    case.ends()
    case.norms("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    case.attention()
    case.mlp()
    case.bound, case.centre = GELU_BOUND, 0.0
    return case


def gemma2():
    return gemma("gemma2", 4, attn_logit_softcapping=5.0, final_logit_softcapping=3.0)


def gemma3():
    case = gemma("gemma3_text", 7, sliding_window_pattern=6, rope_local_base_freq=10000.0, rope_theta=1000000.0,
                 rope_scaling={"rope_type": "linear", "factor": 8.0})
    case.head_norms(32, 32)
    return case


def phi3(**config):
    case = Checkpoint("phi3", **config)
    case.ends()
    case.norms("input_layernorm", "post_attention_layernorm")
    dim = case.head_dim()
    for layer in case.layers():
        case.add(f"{layer}.self_attn.qkv_proj.weight", (HEADS + 2 * KV_HEADS) * dim, HIDDEN)
        case.add(f"{layer}.self_attn.o_proj.weight", HIDDEN, HIDDEN)
        case.add(f"{layer}.mlp.gate_up_proj.weight", 2 * FFN, HIDDEN)
        case.add(f"{layer}.mlp.down_proj.weight", HIDDEN, FFN)
    return case


def longrope(original):
    rope = {"type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(8)],
            "long_factor": [1.0 + 2.0 * i for i in range(8)]}
    return phi3(original_max_position_embeddings=original, rope_scaling=rope)


def yarn():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    return llama_like("qwen2", bias=True, use_sliding_window=False, rope_scaling=rope)


# Stock llama.cpp tells the smaller models, whose queries are not made of latent rows, by their number of layers.
def deepseek2():
    rope = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "mscale": 0.707,
            "mscale_all_dim": 0.707, "beta_fast": 32, "beta_slow": 1}
    case = Checkpoint("deepseek_v2", num_hidden_layers=27, q_lora_rank=None, kv_lora_rank=32, qk_nope_head_dim=24,
                      qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=8, num_experts_per_tok=3,
                      moe_intermediate_size=32, n_shared_experts=2, first_k_dense_replace=1, routed_scaling_factor=1.5,
                      rope_scaling=rope, num_key_value_heads=HEADS)
    case.ends()
    case.norms("input_layernorm", "post_attention_layernorm")
    names = ("gate_proj", "up_proj", "down_proj")
    for number, layer in enumerate(case.layers()):
        case.add(f"{layer}.self_attn.q_proj.weight", HEADS * 32, HIDDEN)
        case.add(f"{layer}.self_attn.kv_a_proj_with_mqa.weight", 32 + 8, HIDDEN)
        case.add(f"{layer}.self_attn.kv_a_layernorm.weight", 32)
        case.add(f"{layer}.self_attn.kv_b_proj.weight", HEADS * (24 + 16), 32)
        case.add(f"{layer}.self_attn.o_proj.weight", HIDDEN, HEADS * 16)
        experts = {"mlp.shared_experts": 64, **{f"mlp.experts.{i}": 32 for i in range(8)}}
        for part, ffn in ({"mlp": FFN} if number == 0 else experts).items():
            for name in names:
                case.add(f"{layer}.{part}.{name}.weight", *((HIDDEN, ffn) if name == "down_proj" else (ffn, HIDDEN)))
        if number > 0:
            case.add(f"{layer}.mlp.gate.weight", 8, HIDDEN)
    return case


def gpt2():
    case = Checkpoint("gpt2")
    case.config = {"model_type": "gpt2", "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT,
                   "n_inner": None, "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-5,
                   "activation_function": "gelu_new"}
    case.add("wte.weight", VOCABULARY, HIDDEN)
    case.add("wpe.weight", CONTEXT, HIDDEN)
    for layer in [f"h.{layer}" for layer in range(LAYERS)]:
        for name, columns, rows in (("attn.c_attn", HIDDEN, 3 * HIDDEN), ("attn.c_proj", HIDDEN, HIDDEN),
                                    ("mlp.c_fc", HIDDEN, 4 * HIDDEN), ("mlp.c_proj", 4 * HIDDEN, HIDDEN)):
            case.add(f"{layer}.{name}.weight", columns, rows)
            case.add(f"{layer}.{name}.bias", rows)
        for norm in (f"{layer}.ln_1", f"{layer}.ln_2"):
            case.add(norm + ".weight", HIDDEN)
            case.add(norm + ".bias", HIDDEN)
        case.add(f"{layer}.attn.bias", 1, 1, CONTEXT, CONTEXT)
    case.add("ln_f.weight", HIDDEN)
    case.add("ln_f.bias", HIDDEN)
    case.bound = GELU_BOUND
    return case


def olmo2():
    case = Checkpoint("olmo2")
    case.ends()
    case.norms("post_attention_layernorm", "post_feedforward_layernorm")
    case.attention()
    case.head_norms(HIDDEN, KV_HEADS * case.head_dim())
    case.mlp()
    return case


def granite():
    return llama_like("granite", embedding_multiplier=3.0, residual_multiplier=0.22, attention_multiplier=0.1,
                      logits_scaling=4.0, tie_word_embeddings=True)


def stablelm():
    case = llama_like("stablelm", bias=True, partial_rotary_factor=0.25, layer_norm_eps=1e-5, use_qkv_bias=True)
    case.norms("input_layernorm", "post_attention_layernorm")
    for layer in case.layers():
        case.add(f"{layer}.input_layernorm.bias", HIDDEN)
        case.add(f"{layer}.post_attention_layernorm.bias", HIDDEN)
    case.add("model.norm.bias", HIDDEN)
    return case


def stablelm_12b():
    case = llama_like("stablelm", partial_rotary_factor=0.25, layer_norm_eps=1e-5, use_parallel_residual=True)
    for layer in case.layers():
        del case.shapes[f"{layer}.post_attention_layernorm.weight"]
        case.add(f"{layer}.input_layernorm.bias", HIDDEN)
        for part, count in (("q", HEADS), ("k", KV_HEADS)):
            for head in range(count):
                case.add(f"{layer}.self_attn.{part}_layernorm.norms.{head}.weight", case.head_dim())
    case.add("model.norm.bias", HIDDEN)
    return case


def falcon(norms=("input_layernorm",), **config):
    kv_heads = config.get("num_kv_heads", 1)
    case = Checkpoint("falcon")
    case.config = {"model_type": "falcon", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
                   "num_attention_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT,
                   "layer_norm_epsilon": 1e-5, "alibi": False, "bias": False, "parallel_attn": True, **config}
    case.add("transformer.word_embeddings.weight", VOCABULARY, HIDDEN)
    for layer in [f"transformer.h.{layer}" for layer in range(LAYERS)]:
        for norm in norms:
            case.add(f"{layer}.{norm}.weight", HIDDEN)
            case.add(f"{layer}.{norm}.bias", HIDDEN)
        case.add(f"{layer}.self_attention.query_key_value.weight", (HEADS + 2 * kv_heads) * HIDDEN // HEADS, HIDDEN)
        case.add(f"{layer}.self_attention.dense.weight", HIDDEN, HIDDEN)
        case.add(f"{layer}.mlp.dense_h_to_4h.weight", 4 * HIDDEN, HIDDEN)
        case.add(f"{layer}.mlp.dense_4h_to_h.weight", HIDDEN, 4 * HIDDEN)
    case.add("transformer.ln_f.weight", HIDDEN)
    case.add("transformer.ln_f.bias", HIDDEN)
    case.bound = GELU_BOUND
    return case


CASES = {
    "llama": lambda: llama_like("llama"),
    "qwen2": lambda: llama_like("qwen2", bias=True, use_sliding_window=False, sliding_window=WINDOW),
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "phi3": phi3,
    "gpt2": gpt2,
    "olmo2": olmo2,
    "granite": granite,
    "stablelm": stablelm,
    "stablelm_12b": stablelm_12b,
    "falcon": falcon,
    "falcon_11b": lambda: falcon(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1),
    "falcon_40b": lambda: falcon(("ln_attn", "ln_mlp"), new_decoder_architecture=True, num_kv_heads=2),
    "phi3_short": lambda: longrope(CONTEXT),
    "phi3_long": lambda: longrope(64),
    "yarn": yarn,
    "deepseek2": deepseek2,
    "mixtral": mixtral,
    "qwen3_moe": qwen3_moe,
}


def their_logits(path, tokens):
    import llama_cpp
    import numpy as np
    model = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_batch=CONTEXT, n_threads=2, logits_all=True, verbose=False)
    model.eval(tokens)
    return np.asarray(model.scores[:len(tokens)], dtype=np.float64)


def our_logits(args, path, tokens, *options):
    import numpy as np
    out = args.work / "logits.bin"
    common.run([args.fewbits.parent / "tests" / "logits", path, out, *options, *tokens])
    return np.fromfile(out, dtype="<f4").reshape(len(tokens), -1).astype(np.float64)


def distance(a, b):
    import numpy as np
    return np.abs(a - b).max() / np.abs(b).max()


def noise_of(a, b):
    import numpy as np
    return np.sqrt(((a - b)**2).mean() / (b**2).mean())


def check_case(args, name):
    import numpy as np
    case = CASES[name]()
    # llama.cpp looks for phi-3 in the folder's name, which goes into the file, and then wants its vocabulary.
    folder = args.work / f"architecture-{list(CASES).index(name)}"
    shutil.rmtree(folder, ignore_errors=True)
    case.write(folder)
    tokens = [int(token) for token in np.random.default_rng(1).integers(3, VOCABULARY - 4, TOKENS)]
    exact, small = folder / "f32.gguf", folder / "q8_0.gguf"
    common.run([args.fewbits, "quantize", folder, exact, "--to", "F32"], stderr=common.subprocess.DEVNULL)
    common.run([args.fewbits, "quantize", folder, small, "--to", "Q8_0"], stderr=common.subprocess.DEVNULL)
    theirs = their_logits(exact, tokens)
    from_folder = distance(our_logits(args, folder, tokens), theirs)
    from_gguf = distance(our_logits(args, exact, tokens), theirs)
    noise, their_noise = (noise_of(logits, theirs) for logits in (our_logits(args, small, tokens),
                                                                  their_logits(small, tokens)))
    ok = max(from_folder, from_gguf) <= case.bound and noise <= NOISE_RATIO * their_noise + NOISE_FLOOR
    print(f"{name:<13} F32 from the folder {from_folder:.1e}, from GGUF {from_gguf:.1e}; noise of Q8_0 {noise:.1e}, "
          f"llama.cpp {their_noise:.1e}{'' if ok else '   TOO FAR'}", flush=True)
    return ok


def main():
    names = [word for word in sys.argv[1:] if word in CASES]
    sys.argv = [word for word in sys.argv if word not in CASES]
    args = common.arguments(__doc__)
    ok = True
    for name in names or CASES:
        ok &= check_case(args, name)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
