#!/usr/bin/env python3
"""Writes the first inputs of the GGUF, safetensors and JSON fuzzers: small files, each with features of its own, most
of them valid, since a fuzzer reaches furthest from there. What fuzzers found later lies beside them, by hand."""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}  # by GGUF type
STRING, ARRAY = 8, 9
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


def safetensors(tensors, metadata=None):
    header, end = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, dtype, shape in tensors:
        size = 4 if dtype == "F32" else 2
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


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
JSON = {
    "kinds": '{"a":[1,-2,3.5e-7,true,false,null,"\\u00e9\\ud83d\\ude00 \\n"],"b":{"":{}}}',
    "integer": '{"a":18446744073709551615}',
    "float_integer": '{"a":2048.0}',
    "duplicate": '{"a":1,"a":2}',
    "deep": "[" * 65 + "]" * 65,
    "scalar": ' "text" ',
    "cut": '{"a": ',
}

for name, files in (("gguf", GGUF), ("safetensors", SAFETENSORS), ("json", JSON)):
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (CORPUS / name / file).write_bytes(content if isinstance(content, bytes) else content.encode())
