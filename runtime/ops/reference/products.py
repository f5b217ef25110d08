"""Products with matrices in blocks, and the rounding of activations in the CPU kernels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from runtime.ops.reference.activations import gated_activation
from runtime.ops.reference.blocks import Bytes, Float32, Multiply, dequantize_rows, product
from runtime.ops.reference.norms import rms_norm

ACTIVATION_GROUP = 8
MAX_MULTIPLIER = 4095

Int8 = npt.NDArray[np.int8]


def exact_product(x: Float32, blocks: Bytes, block_format: str, columns: int) -> Float32:
    """`product`, with sums in float64."""
    weights = dequantize_rows(blocks, block_format, columns).astype(np.float64)
    return (x.astype(np.float64) @ weights.T).astype(np.float32)


def quant_matmul(
    x: Float32,
    blocks: Bytes,
    bias: Float32 | None = None,
    *,
    format: str,
    columns: int,
    rows: int = 0,
    multiply: Multiply = exact_product,
) -> Float32:
    """float32 [M, K], uint8 [N, row_bytes], float32 [N] -> float32 [M, N].

    y = x @ dequantize(blocks).T + bias, in float32, of the first `rows` rows of the matrix if that
    is not 0. The CPU kernels of integer formats quantize x first: `quant_matmul_int8` defines them.
    `multiply` computes the product, for callers that divide the matrix.
    """
    y = multiply(x, blocks[: rows or None], format, columns)
    return y if bias is None else y + bias


def grouped_quant_matmul(
    x: Float32,
    blocks: Bytes,
    *,
    format: str,
    columns: int,
    groups: int,
    multiply: Multiply = product,
) -> Float32:
    """float32 [T, groups * K], uint8 [groups * N, row_bytes] -> float32 [T, groups * N].

    Multiplies each of `groups` equal slices of x with a matrix [N, K] of its own; K = columns. The
    CPU kernels round x as those of quant_matmul.
    """
    slices = x.reshape(len(x), groups, columns).swapaxes(0, 1)
    matrices = blocks.reshape(groups, -1, blocks.shape[1])
    products = [
        multiply(some, matrix, format, columns)
        for some, matrix in zip(slices, matrices, strict=True)
    ]
    return np.concatenate(products, axis=1)


def norm_quant_matmul(
    x: Float32,
    weight: Float32,
    residual: Float32 | None,
    blocks_0: Bytes,
    bias_0: Float32 | None = None,
    blocks_1: Bytes | None = None,
    bias_1: Float32 | None = None,
    blocks_2: Bytes | None = None,
    bias_2: Float32 | None = None,
    *,
    columns: int,
    formats: str,
    rows: str,
    epsilon: float,
    activation: Literal["", "silu", "gelu"] = "",
    multiply: Multiply = product,
) -> tuple[Float32, ...]:
    """Compute `rms_norm`, then a `quant_matmul` of its result for each of one to three matrices.

    x and residual float32 [T, C], weight float32 [C]; per matrix blocks uint8 [N, row_bytes] and
    bias float32 [N]; `formats` and `rows` have a word for each. -> (y_0 [T, N_0], residual sum
    [T, C], y_1, y_2); with an activation (gated_activation(y_0, y_1), residual sum). `multiply`
    computes the products, for callers that divide the matrices.
    """
    normed, total = rms_norm(x, weight, residual, epsilon=epsilon)
    matrices = ((blocks_0, bias_0), (blocks_1, bias_1), (blocks_2, bias_2))
    products: list[Float32] = []
    kinds = zip(formats.split(), rows.split(), strict=True)
    for (blocks, bias), (format, count) in zip(matrices, kinds, strict=False):
        assert blocks is not None
        y = multiply(normed, blocks[: int(count)], format, columns)
        products.append(y if bias is None else y + bias)
    if activation:
        return gated_activation(products[0], products[1], activation=activation), total
    return products[0], total, *products[1:]


@dataclass(frozen=True, slots=True)
class QuantizedActivations:
    """Activations of 8 bits: value = code * multiplier * scale. Immutable.

    codes int8 [M, K]; multipliers int16 [M, K / 8], 1 to 4095; scales float32 [M].
    """

    codes: Int8
    multipliers: npt.NDArray[np.int16]
    scales: Float32

    def values(self) -> Float32:
        """Return float32 [M, K], the values of the codes."""
        steps = np.repeat(self.multipliers, ACTIVATION_GROUP, axis=1).astype(np.int32)
        values: Float32 = (self.codes * steps).astype(np.float32) * self.scales[:, None]
        return values


def quantize_activations(x: Float32) -> QuantizedActivations:
    """float32 [M, K], K a multiple of 32 -> codes, a scale per row and a multiplier per 8 columns.

    scale = absmax of the row / (127 * 4095); multiplier = ceil(4095 * absmax of the group / absmax
    of the row); code = x / (scale * multiplier) rounded half to even. A row whose absmax is below
    1e-30 is all zero. So the error is that of groups of 8, or 2^-20 of the row's absmax if that is
    larger; and sums over 32 columns, which share a weight scale, are exact in 32-bit integers.
    """
    groups = x.reshape(len(x), -1, ACTIVATION_GROUP)
    of_group: Float32 = np.abs(groups).max(axis=-1)
    of_row = of_group.max(axis=-1, keepdims=True, initial=0)
    of_row[of_row < 1e-30] = 0
    used = of_row > 0
    top = np.float32(MAX_MULTIPLIER)
    relative = np.divide(top, of_row, out=np.zeros_like(of_row), where=used)
    inverse = np.divide(127 * top, of_row, out=np.zeros_like(of_row), where=used)
    multipliers = np.clip(np.ceil(of_group * relative), 1, top)
    codes = np.rint(groups * (inverse / multipliers)[..., None]).astype(np.int8)
    scales: Float32 = np.divide(of_row[:, 0], 127 * top, dtype=np.float32)
    return QuantizedActivations(codes.reshape(x.shape), multipliers.astype(np.int16), scales)


def quant_matmul_int8(
    x: Float32, blocks: Bytes, bias: Float32 | None = None, *, format: str, columns: int
) -> Float32:
    """Return `quant_matmul` of the activations rounded to 8 bits, as the CPU kernels compute."""
    rounded = quantize_activations(x).values()
    return quant_matmul(rounded, blocks, bias, format=format, columns=columns)
