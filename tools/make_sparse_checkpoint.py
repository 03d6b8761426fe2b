#!/usr/bin/env python3
"""Makes a Hugging Face folder that is shaped like a large Llama but takes almost no disk: the weights are holes.

    make_sparse_checkpoint.py OUT_DIR                                     Llama 2 70B: 138 GB in shards of 5 GB
    make_sparse_checkpoint.py OUT_DIR --layers 2 --hidden 64 --ffn 128    small, for tests

Every weight reads as zero. What it is for: opening, planning and quantizing a checkpoint larger than memory and disk.
The tokenizer has the 256 bytes and enough made-up pairs to fill the vocabulary.
"""
import argparse
import json
import pathlib
import struct

BYTES = {"F16": 2, "BF16": 2, "F32": 4}
TORCH = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=80)
    parser.add_argument("--hidden", type=int, default=8192)
    parser.add_argument("--ffn", type=int, default=28672)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--dtype", choices=sorted(BYTES), default="F16")
    parser.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    return parser.parse_args()


def tensors(args):
    """(name, shape) of all weights, in the order of the model."""
    kv = args.hidden // args.heads * args.kv_heads
    yield "model.embed_tokens.weight", [args.vocabulary, args.hidden]
    for layer in range(args.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [args.hidden]
        for name, rows in (("q", args.hidden), ("k", kv), ("v", kv), ("o", args.hidden)):
            yield f"{prefix}self_attn.{name}_proj.weight", [rows, args.hidden]
        yield prefix + "post_attention_layernorm.weight", [args.hidden]
        for name in ("gate", "up"):
            yield f"{prefix}mlp.{name}_proj.weight", [args.ffn, args.hidden]
        yield prefix + "mlp.down_proj.weight", [args.hidden, args.ffn]
    yield "model.norm.weight", [args.hidden]
    yield "lm_head.weight", [args.vocabulary, args.hidden]


def size_of(shape, dtype):
    size = BYTES[dtype]
    for length in shape:
        size *= length
    return size


def shards(args):
    """Lists of (name, shape), each of at most --shard-bytes unless one tensor alone has more."""
    shard, size = [], 0
    for name, shape in tensors(args):
        more = size_of(shape, args.dtype)
        if shard and size + more > args.shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append((name, shape))
        size += more
    yield shard


def write_shard(path, shard, dtype):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shard:
        begin, end = end, end + size_of(shape, dtype)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # as the reference writer, so that the weights are aligned
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


def config(args):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": args.hidden,
            "intermediate_size": args.ffn, "num_hidden_layers": args.layers, "num_attention_heads": args.heads,
            "num_key_value_heads": args.kv_heads, "vocab_size": args.vocabulary, "max_position_embeddings": 4096,
            "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
            "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": TORCH[args.dtype]}


def byte_letters():
    """The letter that stands for each byte in byte-level vocabularies: printable ones for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def tokenizer(size):
    """Byte-level BPE: two special tokens, the bytes, then pairs of printable letters with their merges."""
    special = ["<s>", "</s>"]
    letters = byte_letters()
    pairs = [(a, b) for a in letters for b in letters][:max(0, size - len(special) - len(letters))]
    tokens = special + letters + [a + b for a, b in pairs]
    added = [{"id": i, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i, token in enumerate(special)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {token: i for i, token in enumerate(tokens)},
                      "merges": [f"{a} {b}" for a, b in pairs]}}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main():
    args = arguments()
    if args.vocabulary < 258:
        raise SystemExit("--vocabulary: at least 258, for the bytes and two special tokens")
    args.out_dir.mkdir(parents=True, exist_ok=True)
    parts, weight_map, total = list(shards(args)), {}, 0
    for i, part in enumerate(parts):
        name = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        total += write_shard(args.out_dir / name, part, args.dtype)
        weight_map.update({tensor: name for tensor, _ in part})
    write_json(args.out_dir / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": weight_map})
    write_json(args.out_dir / "config.json", config(args))
    write_json(args.out_dir / "tokenizer.json", tokenizer(args.vocabulary))
    write_json(args.out_dir / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"})
    print(f"{args.out_dir}: {len(weight_map)} tensors in {len(parts)} shards, {total / 1e9:.1f} GB of holes")


if __name__ == "__main__":
    main()
