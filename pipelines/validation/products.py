"""Products of the exact model: rows of a matrix are dequantized in blocks, on several threads.

So no matrix is ever whole in float32, which takes 2.2 GB for the output of a model of 7 B.
"""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from runtime.ops.reference import dequantize_rows
from runtime.ops.reference.blocks import Bytes, Float32

WEIGHTS_IN_CACHE = 1 << 17
"""Dequantized at once: NumPy's intermediate values then stay in a processor's own cache."""
WEIGHTS_AT_ONCE = 1 << 19
"""Multiplied at once by a thread, 2 MiB; below that a product is slower."""


class Products:
    """Multiplies with the rows of matrices in blocks. Its threads end with it; any may call it.

    A result does not depend on the number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        weakref.finalize(self, self._pool.shutdown, wait=False)

    def __call__(self, x: Float32, blocks: Bytes, block_format: str, columns: int) -> Float32:
        """float32 [M, columns], uint8 [N, row_bytes] -> float32 [M, N], as `product` defines it."""
        y = np.empty((len(x), len(blocks)), np.float32)
        some = max(1, WEIGHTS_AT_ONCE // columns)
        parts = [slice(at, at + some) for at in range(0, len(blocks), some)]

        def multiply(rows: slice) -> None:
            weights = dequantized(blocks[rows], block_format, columns)
            np.matmul(x, weights.T, out=y[:, rows])

        for _ in self._pool.map(multiply, parts):
            pass
        return y


def dequantized(blocks: Bytes, block_format: str, columns: int) -> Float32:
    """Return float32 [N, columns] of uint8 [N, row_bytes], dequantized a few rows at a time."""
    if block_format == "F32":
        return dequantize_rows(blocks, block_format, columns)
    weights = np.empty((len(blocks), columns), np.float32)
    some = max(1, WEIGHTS_IN_CACHE // columns)
    for at in range(0, len(blocks), some):
        rows = slice(at, at + some)
        weights[rows] = dequantize_rows(blocks[rows], block_format, columns)
    return weights
