#!/usr/bin/env python3
"""Writes every.gguf and every.safetensors, the files that the golden test of src/files reads, with the packages that
define what these formats mean: gguf 0.19.0 and safetensors 0.8 from PyPI.

Everything in them follows a rule that the test repeats: byte i of tensor number k is 7 i + 13 k modulo 256.
"""
import pathlib

import gguf
import numpy
import safetensors

HERE = pathlib.Path(__file__).parent
NUMBERS = [("uint8", 255), ("int8", -128), ("uint16", 65535), ("int16", -32768), ("uint32", 4294967295),
           ("int32", -2147483648), ("float32", 0.1), ("uint64", 2**63 - 1), ("int64", -(2**63)), ("float64", 0.1),
           ("bool", True)]
ARRAYS = [("uint8", [0, 255]), ("int8", [-128, 127]), ("uint16", [1]), ("int16", [-1]), ("uint32", [1, 2, 3]),
          ("int32", [-1, 0, 1]), ("float32", [0.5, -0.25]), ("bool", [True, False]), ("string", ["a", "", "\u00e9\n"]),
          ("uint64", [2**63 - 1]), ("int64", [-(2**63)]), ("float64", [0.1, 1e300])]
SHAPES = [(256,), (3, 256), (2, 3, 256), (2, 1, 3, 512)]  # outermost first
FORMATS = ["BF16", "F16", "F32", "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "IQ4_NL", "IQ4_XS",
           "MXFP4", "NVFP4", "Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0", "TQ1_0",
           "TQ2_0"]


def pattern(number, size):
    return ((7 * numpy.arange(size) + 13 * number) % 256).astype(numpy.uint8)


def write_gguf(path):
    writer = gguf.GGUFWriter(path, "golden")
    writer.add_custom_alignment(64)
    for kind, value in NUMBERS:
        writer.add_key_value(f"one.{kind}", value, gguf.GGUFValueType[kind.upper()])
    writer.add_string("one.string", "caf\u00e9 \u2603")
    writer.add_key_value("one.empty", "", gguf.GGUFValueType.STRING)  # add_string would leave it out
    for kind, values in ARRAYS:
        writer.add_key_value(f"many.{kind}", values, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType[kind.upper()])
    for number, name in enumerate(FORMATS):
        kind = gguf.GGMLQuantizationType[name]
        *rows, columns = SHAPES[number % len(SHAPES)]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        shape = (*rows, columns // block * block_bytes)
        tensor = pattern(number, int(numpy.prod(shape))).reshape(shape)
        writer.add_tensor(f"tensor.{name}", tensor, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(path):
    tensors, buffers = {}, []  # a specification holds no more than the address of its buffer
    for number, (kind, shape) in enumerate([("float32", (2, 3)), ("float16", (5,)), ("bfloat16", (1, 2, 2)),
                                            ("float32", ()), ("float16", (0, 4))]):
        size = int(numpy.prod(shape)) * (4 if kind == "float32" else 2)
        buffers.append(pattern(number, size))
        tensors[f"tensor.{number}"] = safetensors.TensorSpec(dtype=kind, shape=list(shape), data_len=size,
                                                             data_ptr=buffers[-1].ctypes.data)
    safetensors.serialize_file(tensors, str(path), {"format": "pt"})


write_gguf(HERE / "every.gguf")
write_safetensors(HERE / "every.safetensors")
