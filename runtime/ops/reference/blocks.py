"""Dequantizes weights in blocks of a GGML format, and looks up rows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from runtime.gguf.block_formats import FORMAT_OF_NAME
from runtime.gguf.dequantize import dequantize

Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
Int32 = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

Multiply = Callable[[Float32, Bytes, str, int], Float32]
"""The type of `product`."""


def row_bytes(block_format: str, columns: int) -> int:
    """Return the bytes of a row of `columns` weights in a GGML format."""
    _, block_columns, block_bytes = FORMAT_OF_NAME[block_format]
    if columns % block_columns:
        raise ValueError(f"{columns} columns are not whole {block_format} blocks")
    return columns // block_columns * block_bytes


def dequantize_rows(blocks: Bytes, block_format: str, columns: int) -> Float32:
    """uint8 [N, row_bytes] -> float32 [N, columns], as the gguf package defines the format."""
    if blocks.shape[-1] != row_bytes(block_format, columns):
        raise ValueError(f"a row of {blocks.shape[-1]} bytes is not {columns} {block_format}")
    rows = np.ascontiguousarray(blocks)
    if block_format == "F32":
        return rows.view(np.float32).reshape(-1, columns)
    values = dequantize(rows, block_format)
    return np.asarray(values, dtype=np.float32).reshape(-1, columns)


def product(x: Float32, blocks: Bytes, block_format: str, columns: int) -> Float32:
    """float32 [M, columns], uint8 [N, row_bytes] -> float32 [M, N]: x @ dequantized rows.T."""
    y: Float32 = x @ dequantize_rows(blocks, block_format, columns).T
    return y


def row_lookup(blocks: Bytes, ids: Int32, *, format: str, columns: int) -> Float32:
    """uint8 [N, row_bytes], int32 [T] -> float32 [T, columns]: row ids[t] of the weights."""
    return dequantize_rows(blocks[ids], format, columns)
