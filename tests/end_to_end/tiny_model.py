"""Small random Llamas with a byte-level tokenizer, as GGUF files and as Hugging Face folders, from Python alone.

They say nothing sensible, but everything about them is valid: rows of 256 values, so that every format applies; grouped
queries; a vocabulary of the 256 bytes, three merges and an end token.

usage: tiny_model.py OUT.gguf LAYERS        a wider one: 22 MB for each layer
"""
import json
import pathlib
import random
import struct
import sys

ALIGNMENT = 32
GGUF_F32, GGUF_F16 = 0, 1
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
MERGES = ["t h", "th e", "i n"]
END = "<|endoftext|>"


def byte_letters():
    """GPT-2's letter for each byte: printable ones stand for themselves, the others come after 255."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def vocabulary():
    letters = byte_letters()
    return [letters[b] for b in range(256)] + [merge.replace(" ", "") for merge in MERGES] + [END]


def random_halves(count, seed=1):
    """Halves, uniform with a standard deviation of 0.05."""
    source = random.Random(seed)
    return struct.pack(f"<{count}e", *(0.1732 * source.random() - 0.0866 for _ in range(count)))


class TinyModel:
    """`tensors` maps GGUF names to [shape, GGUF type, bytes], outermost size first; a test changes what it likes."""

    POOL_VALUES = 1 << 19

    def __init__(self, hidden=256, layers=2, heads=4, kv_heads=2, ffn=512, context=1024):
        self.hidden, self.layers, self.heads, self.kv_heads = hidden, layers, heads, kv_heads
        self.ffn, self.context = ffn, context
        self.vocabulary = vocabulary()
        self.pool, self.taken = random_halves(self.POOL_VALUES), 0
        self.tensors = {}
        self._make_tensors()
        self.metadata = self._make_metadata()

    def _matrix(self, name, rows, columns):
        """Values come round and round from one pool, each time from another place: large models cost no time."""
        size = 2 * rows * columns
        start = 2 * (self.taken * 7919 % self.POOL_VALUES)
        self.taken += rows
        data = self.pool[start:] + self.pool * (size // len(self.pool) + 1)
        self.tensors[f"{name}.weight"] = [[rows, columns], GGUF_F16, data[:size]]

    def _norm(self, name):
        self.tensors[f"{name}.weight"] = [[self.hidden], GGUF_F32, struct.pack("<f", 1) * self.hidden]

    def _make_tensors(self):
        kv_rows = self.hidden // self.heads * self.kv_heads
        self._matrix("token_embd", len(self.vocabulary), self.hidden)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            self._norm(block + "attn_norm")
            self._matrix(block + "attn_q", self.hidden, self.hidden)
            self._matrix(block + "attn_k", kv_rows, self.hidden)
            self._matrix(block + "attn_v", kv_rows, self.hidden)
            self._matrix(block + "attn_output", self.hidden, self.hidden)
            self._norm(block + "ffn_norm")
            self._matrix(block + "ffn_gate", self.ffn, self.hidden)
            self._matrix(block + "ffn_up", self.ffn, self.hidden)
            self._matrix(block + "ffn_down", self.hidden, self.ffn)
        self._norm("output_norm")

    def _make_metadata(self):
        end = len(self.vocabulary) - 1
        kinds = [1] * end + [3]
        return {
            "general.architecture": (STRING, "llama"), "general.name": (STRING, "tiny"),
            "general.file_type": (UINT32, 1),
            "llama.block_count": (UINT32, self.layers), "llama.context_length": (UINT32, self.context),
            "llama.embedding_length": (UINT32, self.hidden), "llama.feed_forward_length": (UINT32, self.ffn),
            "llama.attention.head_count": (UINT32, self.heads),
            "llama.attention.head_count_kv": (UINT32, self.kv_heads),
            "llama.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
            "llama.rope.dimension_count": (UINT32, self.hidden // self.heads),
            "llama.rope.freq_base": (FLOAT32, 10000.0), "llama.vocab_size": (UINT32, len(self.vocabulary)),
            "tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "gpt-2"),
            "tokenizer.ggml.tokens": (ARRAY, (STRING, self.vocabulary)),
            "tokenizer.ggml.token_type": (ARRAY, (INT32, kinds)),
            "tokenizer.ggml.merges": (ARRAY, (STRING, MERGES)),
            "tokenizer.ggml.bos_token_id": (UINT32, end), "tokenizer.ggml.eos_token_id": (UINT32, end),
            "tokenizer.ggml.add_bos_token": (BOOL, False),
        }

    def write_gguf(self, path):
        write_gguf(path, self.metadata, [(name, *tensor) for name, tensor in self.tensors.items()])
        return path

    def write_folder(self, path, shards=1):
        """The same model as a Hugging Face folder."""
        path = pathlib.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", self.config())
        write_json(path / "tokenizer.json", self.tokenizer())
        write_json(path / "tokenizer_config.json",
                   {"tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END})
        tensors = {hugging_face_name(name): self._unpermuted(name, tensor) for name, tensor in self.tensors.items()}
        if shards == 1:
            write_safetensors(path / "model.safetensors", tensors)
            return path
        names = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
        for file in set(names.values()):
            write_safetensors(path / file, {name: tensors[name] for name in names if names[name] == file})
        write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": names})
        return path

    def config(self):
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "torch_dtype": "float16",
            "hidden_size": self.hidden, "intermediate_size": self.ffn, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": self.context, "vocab_size": len(self.vocabulary),
            "tie_word_embeddings": True, "bos_token_id": len(self.vocabulary) - 1,
            "eos_token_id": len(self.vocabulary) - 1,
        }

    def tokenizer(self):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        end = len(self.vocabulary) - 1
        return {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [{"id": end, "content": END, "special": True, "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False}],
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {token: i for i, token in enumerate(self.vocabulary)}, "merges": MERGES},
        }

    def _unpermuted(self, name, tensor):
        """GGUF keeps the two rows of each RoPE pair side by side, Hugging Face in the two halves of a head."""
        shape, kind, data = tensor
        if not name.endswith(("attn_q.weight", "attn_k.weight")):
            return tensor
        size, half = 2 * self.hidden, self.hidden // self.heads // 2
        rows = [data[i:i + size] for i in range(0, len(data), size)]
        order = [head + 2 * j + part for head in range(0, len(rows), 2 * half) for part in (0, 1) for j in range(half)]
        return [shape, kind, b"".join(rows[i] for i in order)]


def hugging_face_name(name):
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{parts[part]}.weight"


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (shape, kind, data) in tensors.items():
        header[name] = {"dtype": "F16" if kind == GGUF_F16 else "F32", "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == STRING:
        return gguf_string(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(gguf_value(element, v) for v in values)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def write_gguf(path, metadata, tensors, offsets=None):
    """`tensors`: (name, shape, type, bytes). `offsets` gives some names an offset that is not theirs."""
    infos, offset = b"", 0
    for name, shape, kind, data in tensors:
        stated = (offsets or {}).get(name, offset)
        infos += gguf_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, stated)
        offset += len(data) + -len(data) % ALIGNMENT
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    header += b"".join(gguf_string(key) + struct.pack("<I", kind) + gguf_value(kind, value)
                       for key, (kind, value) in metadata.items())
    header += infos
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for _, _, _, data in tensors:
            file.write(data)
            file.write(bytes(-len(data) % ALIGNMENT))


class GgufReader:
    """Just enough of GGUF to look at what was written: `metadata`, `tensors` as (shape, type, offset), `data_start`."""

    SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

    def __init__(self, path):
        self.bytes, self.at = pathlib.Path(path).read_bytes(), 0
        magic, self.version, tensor_count, key_count = self._take("<4sIQQ")
        assert magic == b"GGUF", f"{path} is no GGUF"
        self.metadata = {}
        for _ in range(key_count):
            key = self._string()
            self.metadata[key] = self._value(self._take("<I")[0])
        self.tensors = {}
        for _ in range(tensor_count):
            name, (dimensions,) = self._string(), self._take("<I")
            shape = self._take(f"<{dimensions}Q")[::-1]
            self.tensors[name] = (list(shape), *self._take("<IQ"))
        self.data_start = self.at + -self.at % ALIGNMENT

    def data(self):
        """All that follows the header: the tensors' bytes."""
        return self.bytes[self.data_start:]

    def _take(self, layout):
        values = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return values

    def _string(self):
        length, = self._take("<Q")
        self.at += length
        return self.bytes[self.at - length:self.at].decode()

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            element, count = self._take("<IQ")
            return [self._value(element) for _ in range(count)]
        return self._take(self.SCALARS[kind])[0]


def halves_with(data, index, value):
    """The bytes of F16 values with one of them replaced."""
    changed = bytearray(data)
    struct.pack_into("<e", changed, 2 * index, value)
    return bytes(changed)


def wide_model(layers):
    return TinyModel(hidden=1024, ffn=2560, layers=layers)


if __name__ == "__main__":
    wide_model(int(sys.argv[2])).write_gguf(sys.argv[1])
