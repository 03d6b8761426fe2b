"""Model folders in the layout of compressed-tensors hold exactly the values that we round to.

For every format with such a layout the folder is written, each weight is decoded from safetensors by the rules written
down here in numpy, and the result is compared with what --emulate writes: every value must be the same after rounding
to F16, in every matrix.
"""

import json
import shutil
import struct
import sys

import numpy as np
from gguf import GGUFReader

import common

FORMATS = ["MXFP4", "fp8_e4m3", "fp8_e4m3_channel", "int2_g32", "int3_channel", "int3_g128_asym", "int4_channel",
           "int4_channel_asym", "int4_g128", "int4_g128_asym", "int4_g32_narrow", "int8_channel", "int8_channel_asym",
           "int8_g128", "nvfp4_tensor"]
DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<u4", "I64": "<i8", "I8": "i1", "U8": "u1", "F8_E4M3": "u1"}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, info in json.loads(data[8:8 + length]).items():
        if name == "__metadata__" or info["dtype"] == "BF16":
            continue
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], dtype=DTYPES[info["dtype"]]).reshape(info["shape"])
    return tensors


def small_float(codes, exponent_bits, mantissa_bits, bias):
    """Values of codes that are sign, exponent, mantissa."""
    codes = codes.astype(np.int32)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    whole = np.where(exponent == 0, mantissa, mantissa + (1 << mantissa_bits)).astype(np.float32)
    value = np.ldexp(whole, np.maximum(exponent, 1) - bias - mantissa_bits).astype(np.float32)
    return np.where(codes >> (exponent_bits + mantissa_bits) & 1, -value, value)


def unpack_bits(words, bits, count):
    """Codes of `bits` bits from the rows of a uint32 matrix, lowest bits first, over the borders of words."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    planes = stream[:, :count * bits].reshape(words.shape[0], count, bits)
    return (planes.astype(np.int32) << np.arange(bits)).sum(axis=2)


def decode(config, tensors, module):
    group = config["config_groups"]["group_0"]["weights"]
    bits = group["num_bits"]
    scale = tensors[f"{module}.weight_scale"]
    if config["format"] in ("nvfp4-pack-quantized", "mxfp4-pack-quantized"):
        packed = tensors[f"{module}.weight_packed"]
        codes = np.stack([packed & 15, packed >> 4], axis=2).reshape(packed.shape[0], -1)
        values = small_float(codes, 2, 1, 1)
        if config["format"].startswith("nv"):
            scale = small_float(scale, 4, 3, 7) / tensors[f"{module}.weight_global_scale"]
        else:
            scale = np.ldexp(np.float32(1), scale.astype(np.int32) - 127)
    elif config["format"] == "float-quantized":
        values = small_float(tensors[f"{module}.weight"], 4, 3, 7)
        scale = scale.reshape(-1, 1)
    elif config["format"] == "int-quantized":
        values = tensors[f"{module}.weight"].astype(np.float32)
        if not group["symmetric"]:
            values = values - tensors[f"{module}.weight_zero_point"].astype(np.float32)
    else:
        rows, columns = tensors[f"{module}.weight_shape"]
        values = unpack_bits(tensors[f"{module}.weight_packed"], bits, columns).astype(np.float32)
        zero = np.full(scale.shape, 1 << (bits - 1))
        if not group["symmetric"]:
            zero = unpack_bits(tensors[f"{module}.weight_zero_point"].T, bits, rows).T
        values = values - np.repeat(zero, columns // scale.shape[1], axis=1)
    scale = scale.astype(np.float32)
    return values * np.repeat(scale, values.shape[1] // scale.shape[1], axis=1)


def interleaved(matrix, heads):
    """The order of rows that GGUF has for rotary embeddings: the halves of each head in turn."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def check_format(fewbits, source, work, name):
    folder, emulated = work / f"folder-{name}", work / "emulated.gguf"
    shutil.rmtree(folder, ignore_errors=True)
    common.run([fewbits, "quantize", source, folder, "--to", name])
    common.run([fewbits, "quantize", source, emulated, "--emulate", name])
    config = json.loads((folder / "config.json").read_text())
    tensors = read_safetensors(folder / "model.safetensors")
    reader = GGUFReader(emulated)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    count = 0
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] != "blk" or parts[2] not in NAMES.values():
            continue
        module = f"model.layers.{parts[1]}." + next(k for k, v in NAMES.items() if v == parts[2])
        values = decode(config["quantization_config"], tensors, module)
        if parts[2] in heads:
            values = interleaved(values, heads[parts[2]])
        if not (values.astype(np.float16) == tensor.data).all():
            raise SystemExit(f"{name}: {module} is not what --emulate gives")
        count += 1
    assert count > 0
    print(f"{name:<18} {config['quantization_config']['format']:<22} {count} matrices equal", flush=True)
    shutil.rmtree(folder)


def main():
    args = common.arguments(__doc__)
    source = common.reference_model(args.work, wide=True)
    for name in FORMATS:
        check_format(args.fewbits, source, args.work, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
