"""Quantized model folders, in every layout, hold exactly the values that we round to, and are read back as these.

For every layout and format the folder is written, each weight is decoded from safetensors by the rules written down
here in numpy, and the result is compared with what --emulate writes: every value must be the same after rounding to
F16, in every matrix. Then fewbits reads the folder and writes F16: every tensor must have the bytes of --emulate.
Tiles of FP8, groups in the order of activations and sparse weights, which no other file has, are compared between numpy
and what is read back.

Every format with a tiny random model, one of each layout with a model of real size.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np
from gguf import GGUFReader

import common

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "end_to_end"))
import tiny_model  # noqa: E402

TILES = "fp8_e4m3_b128"
COMPRESSED = ["MXFP4", "fp8_e4m3", "fp8_e4m3_channel", "int2_g32", "int3_channel", "int3_g128_asym", "int4_channel",
              "int4_channel_asym", "int4_g128", "int4_g128_asym", "int4_g32_narrow", "int8_channel",
              "int8_channel_asym", "int8_g128", "nvfp4_tensor", TILES]
LAYOUTS = {
    "compressed-tensors": COMPRESSED,
    "gptq": ["int2_g128", "int3_g128", "int4_channel", "int4_g128", "int4_g32", "int8_g128"],
    "gptq_v2": ["int2_g64_asym", "int3_g128_asym", "int4_channel_asym", "int4_g128", "int4_g128_asym",
                "int8_g128_asym"],
    "fp8": [TILES],
    "awq": ["int4_channel_asym", "int4_g128", "int4_g128_asym", "int4_g64_asym"],
}
# What the options change in a folder: format, options.
WITH_OPTIONS = [("int8_channel", ["--activations", "floats"]), ("int8_channel_asym", ["--activations", "floats"]),
                ("fp8_e4m3_channel", ["--activations", "floats"]), ("fp8_e4m3_channel", ["--sparse"]),
                ("fp8_e4m3", ["--sparse"]), ("int8_channel", ["--sparse"])]
ACT_ORDER = [("compressed-tensors", "int4_g128"), ("compressed-tensors", "int3_g128_asym"), ("gptq", "int4_g128"),
             ("gptq_v2", "int2_g64_asym")]
WITH_REAL_SIZES = {"compressed-tensors": "int4_g128_asym", "gptq": "int4_g128", "awq": "int4_g128", "fp8": TILES}
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


def decode_gptq(config, tensors, module):
    """Codes run down the inputs, zero points along the outputs; version 1 keeps zero points less one."""
    bits = config["bits"]
    words, zeros, scales = (tensors[f"{module}.{name}"] for name in ("qweight", "qzeros", "scales"))
    columns, rows = words.shape[0] * 32 // bits, words.shape[1]
    codes = unpack_bits(np.ascontiguousarray(words.T), bits, columns)
    zero = unpack_bits(zeros, bits, rows)
    if config["checkpoint_format"] == "gptq":
        zero = (zero + 1) % (1 << bits)
    group = tensors[f"{module}.g_idx"]
    assert config["sym"] == (zero == 1 << (bits - 1)).all()
    consecutive = np.arange(columns) * scales.shape[0] // columns
    assert (np.sort(group) == consecutive).all() and config["desc_act"] == (group != consecutive).any()
    return ((codes - zero.T[:, group]) * scales.astype(np.float32).T[:, group]).astype(np.float32)


def decode_awq(config, tensors, module):
    """Eight outputs in a word, the lowest nibble first: 0, 2, 4, 6, 1, 3, 5, 7."""
    def nibbles(words):
        codes = (words[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        ordered = np.empty_like(codes)
        ordered[:, :, [0, 2, 4, 6, 1, 3, 5, 7]] = codes
        return ordered.reshape(words.shape[0], -1).astype(np.int32)

    codes, zeros = nibbles(tensors[f"{module}.qweight"]), nibbles(tensors[f"{module}.qzeros"])
    scales = tensors[f"{module}.scales"].astype(np.float32)
    group = np.arange(codes.shape[0]) * scales.shape[0] // codes.shape[0]
    return ((codes - zeros[group]) * scales[group]).astype(np.float32).T


def decode_fp8(config, tensors, module, scale="weight_scale_inv"):
    """A scale for each 128 x 128 codes; it multiplies, whatever its name says."""
    codes, scales = tensors[f"{module}.weight"], tensors[f"{module}.{scale}"]
    assert scales.shape == tuple(-(-size // 128) for size in codes.shape)
    spread = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)[:codes.shape[0], :codes.shape[1]]
    return small_float(codes, 4, 3, 7) * spread


def dense(tensors, module):
    """Two of four codes are there, those that the bitmask has; the others are zeros."""
    rows, columns = tensors[f"{module}.shape"][:, 0]
    there = np.unpackbits(tensors[f"{module}.bitmask"], axis=1, bitorder="little")[:, :columns].astype(bool)
    assert (there.reshape(rows, columns // 4, 4).sum(axis=2) == 2).all()
    compressed = tensors[f"{module}.compressed"]
    codes = np.zeros((rows, columns), compressed.dtype)
    codes[there] = compressed.ravel()
    return codes


def decode(config, tensors, module):
    if config["quant_method"] != "compressed-tensors":
        decoders = {"gptq": decode_gptq, "awq": decode_awq, "fp8": decode_fp8}
        return decoders[config["quant_method"]](config, tensors, module)
    if config["config_groups"]["group_0"]["weights"]["strategy"] == "block":
        return decode_fp8(config, tensors, module, "weight_scale")
    group = config["config_groups"]["group_0"]["weights"]
    bits = group["num_bits"]
    if "sparsity_config" in config:
        tensors = tensors | {f"{module}.weight": dense(tensors, module)}
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
        group_of_column = np.repeat(np.arange(scale.shape[1]), columns // scale.shape[1])
        if group.get("actorder"):
            assert (tensors[f"{module}.weight_g_idx"] != group_of_column).any()
            group_of_column = tensors[f"{module}.weight_g_idx"]
        return (values - zero[:, group_of_column]) * scale.astype(np.float32)[:, group_of_column]
    scale = scale.astype(np.float32)
    return values * np.repeat(scale, values.shape[1] // scale.shape[1], axis=1)


def interleaved(matrix, heads):
    """The order of rows that GGUF has for rotary embeddings: the halves of each head in turn."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def check_format(fewbits, source, work, layout, name, options=()):
    folder, emulated, back = work / "folder", work / "emulated.gguf", work / "back.gguf"
    shutil.rmtree(folder, ignore_errors=True)
    common.run([fewbits, "quantize", source, folder, "--to", name, "--layout", layout, *options])
    alone = name == TILES or "--calibrate" in options or "--sparse" in options  # no other file has such values
    if not alone:
        common.run([fewbits, "quantize", source, emulated, "--emulate", name, "--no-certificate"])
    common.run([fewbits, "quantize", folder, back, "--to", "F16", "--no-certificate"], stderr=subprocess.DEVNULL)
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors.update(read_safetensors(file))
    read_back = {tensor.name: tensor for tensor in GGUFReader(back).tensors}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    count = 0
    for tensor in GGUFReader(back if alone else emulated).tensors:
        if tensor.data.tobytes() != read_back[tensor.name].data.tobytes():
            raise SystemExit(f"{layout} {name}: {tensor.name} is read back as something else")
        parts = tensor.name.split(".")
        if parts[0] != "blk" or parts[2] not in NAMES.values():
            continue
        module = f"model.layers.{parts[1]}." + next(k for k, v in NAMES.items() if v == parts[2])
        values = decode(config["quantization_config"], tensors, module)
        if parts[2] in heads:
            values = interleaved(values, heads[parts[2]])
        if not (values.astype(np.float16) == tensor.data).all():
            raise SystemExit(f"{layout} {name}: {module} is not what --emulate gives")
        count += 1
    assert count > 0
    print(f"{layout:<20} {' '.join([name, *options[:2]]):<18} {count} matrices equal", flush=True)
    shutil.rmtree(folder)


def main():
    args = common.arguments(__doc__)
    for kind in ("tiny", "wide"):
        (args.work / f"folders-{kind}").mkdir(exist_ok=True)
    tiny = tiny_model.TinyModel().write_folder(args.work / "folders-tiny/source")
    for layout, names in LAYOUTS.items():
        for name in names:
            check_format(args.fewbits, tiny, args.work / "folders-tiny", layout, name)
    for name, options in WITH_OPTIONS:
        check_format(args.fewbits, tiny, args.work / "folders-tiny", "compressed-tensors", name, options)
    text = args.work / "folders-tiny" / "text"
    text.write_text(__doc__)
    for layout, name in ACT_ORDER:
        check_format(args.fewbits, tiny, args.work / "folders-tiny", layout, name,
                     ["--act-order", "--calibrate", text, "--samples", 2, "--sample-length", 128])
    wide = common.reference_model(args.work, wide=True)
    for layout, name in WITH_REAL_SIZES.items():
        check_format(args.fewbits, wide, args.work / "folders-wide", layout, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
