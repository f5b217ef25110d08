"""Dequantizes weights as the gguf package does, and in the formats that it only names."""

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray

from runtime.gguf.block_formats import FORMAT_OF_NAME


def dequantize(data: NDArray[Any], format: str) -> NDArray[np.float32]:
    """uint8 [..., row_bytes] (or the plain numbers) -> float32 [..., columns].

    format: GGML's name of it. Raises NotImplementedError for a format without a definition.
    """
    if format == "Q1_0":
        return _signs(np.asarray(data, np.uint8), FORMAT_OF_NAME[format].bytes)
    values: NDArray[np.float32] = quants.dequantize(data, GGMLQuantizationType[format])
    return values


def _signs(data: NDArray[np.uint8], block_bytes: int) -> NDArray[np.float32]:
    """Q1_0: a float16 d, then 128 bits, of which 1 means d and 0 means -d (ggml-quants.c)."""
    blocks = data.reshape(-1, block_bytes)
    units = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    bits = np.unpackbits(blocks[:, 2:], axis=-1, bitorder="little")
    values = np.where(bits == 1, units, -units)
    return values.reshape(*data.shape[:-1], -1)
