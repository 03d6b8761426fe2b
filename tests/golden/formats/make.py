"""Writes the golden files of the number formats: what the reference implementations make of the same input.

    python make.py            needs numpy and gguf==0.19.0

decode/NAME.blocks     blocks of random bits, the half-precision fields finite
decode/NAME.values     their values by gguf's decoder, float32
"""

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
}
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
        values = quants.dequantize(blocks, Type[name]).astype("<f4")
        (folder / f"{name}.blocks").write_bytes(blocks.tobytes())
        (folder / f"{name}.values").write_bytes(values.tobytes())


if __name__ == "__main__":
    make_decode(np.random.default_rng(1))
