"""Random weights in every block format, also in those that the gguf package cannot quantize to."""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize

from runtime.gguf.dequantize import dequantize

PLAIN_FORMATS = ["F32", "F16", "BF16"]

# Of every integer format: the bytes at which a block holds float16 scales or minimums.
UNITS = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "MXFP4": [],
    "TQ1_0": [52],
    "TQ2_0": [64],
    "IQ2_XXS": [0],
    "IQ2_XS": [0],
    "IQ2_S": [0],
    "IQ3_XXS": [0],
    "IQ3_S": [0],
    "IQ1_S": [0],
    "IQ1_M": [],
    "NVFP4": [],
    "Q1_0": [0],
}
INTEGER_FORMATS = list(UNITS)
QUANTIZED = {
    "F32",
    "F16",
    "BF16",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "MXFP4",
    "TQ1_0",
    "TQ2_0",
}


def whole_blocks(block_format: str, columns: int) -> int:
    """The least count of columns from `columns` on that is whole blocks."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[block_format]][0]
    return -(-columns // size) * size


def raw_weights(
    random: np.random.Generator, block_format: str, rows: int, columns: int
) -> np.ndarray:
    """Random bytes: every code there is, also those that no quantizer writes. Units are sane."""
    size, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[block_format]]
    blocks = random.integers(0, 256, (rows, columns // size, block_bytes), dtype=np.uint8)
    for at in UNITS.get(block_format, []):
        units = random.standard_normal((rows, columns // size)).astype(np.float16)
        blocks[:, :, at : at + 2] = units.view(np.uint8).reshape(rows, -1, 2)
    if block_format == "MXFP4":
        blocks[:, :, 0] = random.integers(124, 132, (rows, columns // size))
    if block_format == "NVFP4":
        blocks[:, :, :4] = random.integers(40, 72, (rows, columns // size, 4))
    if block_format == "IQ1_M":
        _set_scattered_units(blocks, 0.25)
    return blocks.reshape(rows, -1)


def weights(
    random: np.random.Generator,
    block_format: str,
    rows: int,
    columns: int,
    deviation: float = 1.0,
) -> np.ndarray:
    """uint8 [rows, row_bytes]: random weights of about that standard deviation."""
    kind = GGMLQuantizationType[block_format]
    if block_format in QUANTIZED:
        values = random.standard_normal((rows, columns), np.float32) * np.float32(deviation)
        return np.ascontiguousarray(quantize(values, kind)).view(np.uint8).reshape(rows, -1)
    blocks = raw_weights(random, block_format, rows, columns)
    if block_format not in UNITS:
        return blocks  # one that nobody reads
    each = blocks.reshape(-1, GGML_QUANT_SIZES[kind][1])
    ratio = deviation / float(dequantize(blocks, block_format).std())
    if block_format == "IQ1_M":
        _set_scattered_units(each, 0.25 * ratio)
    if block_format == "NVFP4":
        scales = each[:, :4].astype(np.int32) + 8 * round(np.log2(ratio))  # of their exponents
        each[:, :4] = np.clip(scales, 0, 126)
    for at in UNITS[block_format]:
        units = each[:, at : at + 2].copy().view(np.float16) * np.float16(ratio)
        each[:, at : at + 2] = units.view(np.uint8)
    return blocks


def _set_scattered_units(blocks: np.ndarray, unit: float) -> None:
    """IQ1_M keeps its float16 in the highest 4 bits of 4 words."""
    bits = int(np.float16(unit).view(np.uint16))
    nibbles = np.array([bits << 4 & 240, bits & 240, bits >> 4 & 240, bits >> 8 & 240], np.uint8)
    blocks[..., 49:56:2] = blocks[..., 49:56:2] & 15 | nibbles
