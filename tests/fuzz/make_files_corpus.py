#!/usr/bin/env python3
"""Writes the first inputs of the GGUF, safetensors, layouts and JSON fuzzers: small files, each with features of its
own, most of them valid, since a fuzzer reaches furthest from there. What fuzzers found later lies beside them, by
hand."""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}  # by GGUF type
STRING, ARRAY = 8, 9
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I16": 2, "I32": 4, "I64": 8, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E8M0": 1}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2)}


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == STRING:
        return gguf_string(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(gguf_value(element, v) for v in values)
    return struct.pack("<" + SCALARS[kind], value)


def gguf(entries=(), tensors=(), version=3, alignment=32):
    """entries: (key, type, value); tensors: (name, sizes innermost first, type)"""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    for key, kind, value in entries:
        out += gguf_string(key) + struct.pack("<I", kind) + gguf_value(kind, value)
    offset = 0
    for name, sizes, kind in tensors:
        values, bytes_ = BLOCKS[kind]
        size = bytes_ // values if not sizes else sizes[0] // values * bytes_
        for length in sizes[1:]:
            size *= length
        out += gguf_string(name) + struct.pack("<I", len(sizes)) + b"".join(struct.pack("<Q", n) for n in sizes)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
    return out + bytes(-len(out) % alignment) + bytes(i * 37 % 256 for i in range(offset))


def safetensors(tensors, metadata=None, data=None):
    header, end = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, dtype, shape in tensors:
        size = SIZES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (bytes(end) if data is None else data + bytes(end - len(data)))


def quantized(method, tensors, data=None, **config):
    return json.dumps({"quant_method": method, **config}).encode() + b"\0" + safetensors(tensors, None, data)


GGUF = {
    "empty": gguf(),
    "version2": gguf([("general.architecture", STRING, "llama")], [("a", [4, 2], 0)], version=2),
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "scalars": gguf([(f"k{kind}", kind, 1) for kind in SCALARS] + [("s", STRING, "text"), ("", STRING, "")]),
    "arrays": gguf([(f"k{kind}", ARRAY, (kind, [0, 1])) for kind in SCALARS]
                   + [("s", ARRAY, (STRING, ["a", "", "bc"])), ("none", ARRAY, (4, []))]),
    "alignment": gguf([("general.alignment", 4, 64)], [("a", [3], 0), ("b", [5], 1)], alignment=64),
    "split": gguf([("split.count", 2, 2), ("split.no", 2, 0)]),
    "dimensions": gguf([], [("a", [], 0), ("b", [2], 0), ("c", [2, 1], 1), ("d", [2, 1, 2], 30),
                            ("e", [0, 1, 2, 3], 0)]),
    "formats": gguf([], [(f"t{kind}", [256], kind) for kind in BLOCKS]),
}
SAFETENSORS = {
    "empty": safetensors([]),
    "metadata": safetensors([("a", "F32", [2, 3])], {"format": "pt"}),
    "dtypes": safetensors([("a", "F32", []), ("b", "F16", [1, 2, 3]), ("c", "BF16", [0]), ("d", "BF16", [5])]),
    "other_dtype": safetensors([("a", "I16", [4])]),
}
SHAPE = struct.pack("<qq", 4, 64)
LAYOUTS = {
    "packed": quantized("compressed-tensors", [
        ("a.weight_shape", "I64", [2]), ("a.weight_packed", "I32", [4, 8]), ("a.weight_scale", "F16", [4, 2]),
        ("a.weight_zero_point", "I32", [1, 2]), ("a.weight_g_idx", "I32", [64])], SHAPE,
        config_groups={"group_0": {"weights": {"num_bits": 4, "group_size": 32}}}),
    "bytes": quantized("compressed-tensors", [
        ("a.weight", "I8", [2, 32]), ("a.weight_scale", "F32", [2, 1]), ("a.weight_zero_point", "I8", [2, 1]),
        ("b.weight", "F8_E4M3", [2, 32]), ("b.weight_scale", "F32", [1]), ("b.input_scale", "F32", [1])]),
    "nvfp4": quantized("compressed-tensors", [
        ("a.weight_packed", "U8", [2, 16]), ("a.weight_scale", "F8_E4M3", [2, 2]),
        ("a.weight_global_scale", "F32", [1]), ("b.weight_packed", "U8", [2, 16]), ("b.weight_scale", "U8", [2, 1])]),
    "tiles": quantized("fp8", [("a.weight", "F8_E4M3", [5, 6]), ("a.weight_scale_inv", "F32", [2, 2])],
                       weight_block_size=[4, 4]),
    "gptq": quantized("gptq", [
        ("a.qweight", "I32", [8, 8]), ("a.qzeros", "I32", [2, 1]), ("a.scales", "F16", [2, 8]),
        ("a.g_idx", "I32", [64]), ("a.bias", "F16", [8])], bits=4, group_size=32),
    "gptq3": quantized("gptq", [
        ("a.qweight", "I32", [3, 32]), ("a.qzeros", "I32", [1, 3]), ("a.scales", "F16", [1, 32])],
        bits=3, group_size=-1, checkpoint_format="gptq_v2"),
    "awq": quantized("awq", [
        ("a.qweight", "I32", [64, 1]), ("a.qzeros", "I32", [2, 1]), ("a.scales", "F16", [2, 8])],
        bits=4, group_size=32),
}
JSON = {
    "kinds": '{"a":[1,-2,3.5e-7,true,false,null,"\\u00e9\\ud83d\\ude00 \\n"],"b":{"":{}}}',
    "integer": '{"a":18446744073709551615}',
    "float_integer": '{"a":2048.0}',
    "duplicate": '{"a":1,"a":2}',
    "deep": "[" * 65 + "]" * 65,
    "scalar": ' "text" ',
    "cut": '{"a": ',
}

for name, files in (("gguf", GGUF), ("safetensors", SAFETENSORS), ("layouts", LAYOUTS), ("json", JSON)):
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (CORPUS / name / file).write_bytes(content if isinstance(content, bytes) else content.encode())
