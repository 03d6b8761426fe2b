"""Writes the golden files of the number formats: what the reference implementations make of the same input.

    python make.py            needs numpy, gguf==0.19.0 and llama-cpp-python==0.3.36 (built with its default flags)

decode/NAME.blocks     blocks of random bits, the half-precision fields finite
decode/NAME.values     their values by gguf's decoder, float32
encode/input           rows of 768 float32
encode/importance      768 float32, one for each column
encode/NAME.plain      the rows as ggml_quantize_chunk encodes them; blocks of 32 use the first 736 columns
encode/NAME.weighted   the same with importance

Where gguf has an encoder too, the script checks that it gives the same bytes.
"""

import ctypes
import importlib.util
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

HERE = Path(__file__).parent
BLOCK_TYPES = {  # block values, block bytes, offsets of the half-precision fields
    "Q8_0": (32, 34, [0]),
    "Q4_0": (32, 18, [0]),
    "Q4_1": (32, 20, [0, 2]),
    "Q5_0": (32, 22, [0]),
    "Q5_1": (32, 24, [0, 2]),
    "Q2_K": (256, 84, [80, 82]),
    "Q3_K": (256, 110, [108]),
    "Q4_K": (256, 144, [0, 2]),
    "Q5_K": (256, 176, [0, 2]),
    "Q6_K": (256, 210, [208]),
    "IQ4_NL": (32, 18, [0]),
    "IQ4_XS": (256, 136, [0]),
    "F16": (1, 2, [0]),
    "BF16": (1, 2, [0]),
    "MXFP4": (32, 17, []),
    "NVFP4": (64, 36, []),
    "TQ1_0": (256, 54, [52]),
    "TQ2_0": (256, 66, [64]),
    "IQ1_M": (256, 56, []),
    "IQ1_S": (256, 50, [0]),
    "IQ2_S": (256, 82, [0]),
    "IQ2_XS": (256, 74, [0]),
    "IQ2_XXS": (256, 66, [0]),
    "IQ3_S": (256, 110, [0]),
    "IQ3_XXS": (256, 98, [0]),
}
DECODED_ONLY = {"NVFP4", "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS"}
DECODED_VALUES = 2048


def finite_halves(blocks, offsets):
    """Clears one exponent bit where a half would be infinite or NaN; zeros and subnormals stay."""
    for offset in offsets:
        high = blocks[:, offset + 1]
        high[(high & 0x7C) == 0x7C] &= 0xBF


def make_decode(random):
    folder = HERE / "decode"
    folder.mkdir(exist_ok=True)
    for name, (block_values, block_bytes, offsets) in BLOCK_TYPES.items():
        shape = (DECODED_VALUES // block_values, block_bytes)
        blocks = random.integers(0, 256, shape, dtype=np.uint8)
        finite_halves(blocks, offsets)
        if name == "IQ1_M":  # the top nibbles of its four words of scales are a half
            blocks[:, 55] &= 0xBF
        values = quants.dequantize(blocks, Type[name]).astype("<f4")
        (folder / f"{name}.blocks").write_bytes(blocks.tobytes())
        (folder / f"{name}.values").write_bytes(values.tobytes())


def load_ggml():
    package = Path(importlib.util.find_spec("llama_cpp").origin).parent
    library = ctypes.CDLL(str(package / "lib" / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def encode(library, name, rows, importance):
    """The rows' bytes by the reference encoder; importance may be None."""
    block_values, block_bytes, _ = BLOCK_TYPES[name]
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    out = np.zeros((rows.shape[0], rows.shape[1] // block_values * block_bytes), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    size = library.ggml_quantize_chunk(
        Type[name].value, rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1],
        None if weights is None else weights.ctypes.data,
    )  # fmt: skip
    assert size == out.size
    return out


def input_rows(random, columns):
    """What weights look like, and what they should not look like."""
    normal = random.standard_normal((12, columns))
    # + 0.0: of a block that holds both zeros, gguf and ggml store different ones as the minimum
    sparse = normal[0] * (random.random(columns) < 0.05) + 0.0
    outlier = normal[1] * 0.01
    outlier[37] = 25
    mixed = normal[2].copy()
    mixed[64:128] = 0
    mixed[300:340] *= 1e-6
    rows = [
        normal[3] * 0.02,
        normal[4],
        random.standard_t(2, columns) * 0.05,
        random.laplace(size=columns),
        random.uniform(-1, 1, columns),
        np.abs(normal[5]),
        -np.abs(normal[6]),
        normal[7] + 3,
        np.full(columns, 0.37),
        np.full(columns, -0.37),
        np.zeros(columns),
        np.round(normal[8] * 4) / 2,
        np.arange(columns) % 31 - 15.0,
        sparse,
        outlier,
        mixed,
        normal[9] * 1e-6,  # scales are subnormal halves
        normal[10] * 1e-20,  # and here zero
        normal[11] * 1e4,  # and here almost infinite
    ]
    return np.stack(rows).astype("<f4")


def make_encode(random):
    folder = HERE / "encode"
    folder.mkdir(exist_ok=True)
    library = load_ggml()
    rows = input_rows(random, 768)
    importance = np.exp(random.standard_normal(768)).astype("<f4")
    (folder / "input").write_bytes(rows.tobytes())
    (folder / "importance").write_bytes(importance.tobytes())
    for name, (block_values, _, _) in BLOCK_TYPES.items():
        if block_values == 1 or name in DECODED_ONLY:
            continue
        columns = 768 if block_values == 256 else 736
        plain = encode(library, name, rows[:, :columns], None)
        weighted = encode(library, name, rows[:, :columns], importance[:columns])
        if name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "TQ1_0", "TQ2_0"):
            assert (quants.quantize(rows[:, :columns], Type[name]) == plain).all(), name
        (folder / f"{name}.plain").write_bytes(plain.tobytes())
        (folder / f"{name}.weighted").write_bytes(weighted.tobytes())


if __name__ == "__main__":
    make_decode(np.random.default_rng(1))
    make_encode(np.random.default_rng(2))
