"""The definition of every `com.rocmforge` operator in plain NumPy.

These functions say what the operators mean; the kernels are tested against them. All arithmetic
is float32 unless a docstring says otherwise. T = tokens of the step, B = requests, P = page table
columns, H = query heads, G = key-value heads, D = head width, L = layers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

DOMAIN = "com.rocmforge"
ACTIVATION_GROUP = 8
LARGEST_MULTIPLIER = 4095

Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
Int32 = npt.NDArray[np.int32]
Int8 = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]


def row_bytes(block_format: str, columns: int) -> int:
    """Bytes of one row of `columns` weights in the GGML format of that name."""
    block_columns, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[block_format]]
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
    values = dequantize(rows, GGMLQuantizationType[block_format])
    return np.asarray(values, dtype=np.float32).reshape(-1, columns)


def row_lookup(blocks: Bytes, ids: Int32, *, format: str, columns: int) -> Float32:
    """uint8 [N, row_bytes], int32 [T] -> float32 [T, columns]: row ids[t] of the weights."""
    return dequantize_rows(blocks[ids], format, columns)


def rms_norm(
    x: Float32, weight: Float32, residual: Float32 | None = None, *, epsilon: float
) -> tuple[Float32, Float32]:
    """float32 [T, C], [W], [T, C] -> (normed [T, C], sum [T, C]).

    sum = x + residual; normed = sum / sqrt(mean(sum^2) + epsilon) * weight, the mean taken over
    each group of W consecutive values (W = C for a layer, W = D for a norm per head).
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    total = x if residual is None else x + residual
    groups = total.reshape(len(x), x.shape[1] // len(weight), len(weight))
    mean_square = np.mean(np.square(groups), axis=-1, keepdims=True, dtype=np.float64)
    scale = 1 / np.sqrt(mean_square + epsilon)
    return (groups * scale * weight).astype(np.float32).reshape(x.shape), total


def layer_norm(
    x: Float32, weight: Float32, residual: Float32 | None = None, *, epsilon: float
) -> tuple[Float32, Float32]:
    """float32 [T, C], [C], [T, C] -> (normed [T, C], sum [T, C]).

    sum = x + residual; normed = (sum - mean) / sqrt(variance + epsilon) * weight over each row.
    Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """
    total = x if residual is None else x + residual
    centered = total - np.mean(total, axis=-1, keepdims=True, dtype=np.float64)
    variance = np.mean(np.square(centered), axis=-1, keepdims=True)
    return (centered / np.sqrt(variance + epsilon) * weight).astype(np.float32), total


def quant_matmul(
    x: Float32, blocks: Bytes, bias: Float32 | None = None, *, format: str, columns: int
) -> Float32:
    """float32 [M, K], uint8 [N, row_bytes], float32 [N] -> float32 [M, N].

    y = x @ dequantize(blocks).T + bias, in exact arithmetic as far as float32 goes. The CPU
    kernels of integer formats quantize x first: `quant_matmul_int8` is their definition.
    """
    weights = dequantize_rows(blocks, format, columns).astype(np.float64)
    y = x.astype(np.float64) @ weights.T
    if bias is not None:
        y += bias
    return y.astype(np.float32)


def grouped_quant_matmul(
    x: Float32,
    blocks: Bytes,
    *,
    format: str,
    columns: int,
    groups: int,
    weights: Callable[[Bytes, str, int], Float32] = dequantize_rows,
) -> Float32:
    """float32 [T, groups * K], uint8 [groups * N, row_bytes] -> float32 [T, groups * N].

    Each of `groups` equal slices of x times a matrix [N, K] of its own; K = columns. The CPU
    kernels round x as those of quant_matmul.
    """
    matrices = weights(blocks, format, columns).reshape(groups, -1, columns)
    y: Float32 = np.einsum("tgk,gnk->tgn", x.reshape(len(x), groups, columns), matrices)
    return y.reshape(len(x), groups * matrices.shape[1])


def norm_quant_matmul(
    x: Float32,
    weight: Float32,
    residual: Float32 | None,
    *matrices: Bytes | Float32 | None,
    columns: int,
    formats: str,
    rows: str,
    epsilon: float,
    activation: Literal["", "silu", "gelu"] = "",
    weights: Callable[[Bytes, str, int], Float32] = dequantize_rows,
) -> tuple[Float32, ...]:
    """`rms_norm`, then a `quant_matmul` of its result for each of one to three matrices.

    x and residual float32 [T, C], weight float32 [C]; `matrices` are blocks uint8 [N, row_bytes]
    and bias float32 [N] in turn, where a last bias and what is None may be left out; `formats` and
    `rows` have a word for each. -> (y_0 [T, N_0], residual sum [T, C], y_1, y_2); with an
    activation (gated_activation(y_0, y_1), residual sum). `weights` dequantizes, for those who
    keep what it gives.
    """
    normed, total = rms_norm(x, weight, residual, epsilon=epsilon)
    products: list[Float32] = []
    for index, (format, count) in enumerate(zip(formats.split(), rows.split(), strict=True)):
        blocks, bias = (*matrices[2 * index : 2 * index + 2], None)[:2]
        assert blocks is not None
        y = normed @ weights(blocks.view(np.uint8), format, columns)[: int(count)].T
        products.append(y if bias is None else y + bias.view(np.float32))
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
        """float32 [M, K]: what the codes stand for."""
        steps = np.repeat(self.multipliers, ACTIVATION_GROUP, axis=1).astype(np.int32)
        values: Float32 = (self.codes * steps).astype(np.float32) * self.scales[:, None]
        return values


def quantize_activations(x: Float32) -> QuantizedActivations:
    """float32 [M, K], K a multiple of 32 -> codes, a scale per row and a multiplier per 8 columns.

    scale = absmax of the row / (127 * 4095); multiplier = ceil(4095 * absmax of the group / absmax
    of the row); code = x / (scale * multiplier) rounded half to even. A row whose absmax is below
    1e-30 is all zero. So the error is that of groups of 8, or 2^-20 of the row's absmax where that
    is more; and the sums over 32 columns, which share a weight scale, are exact in 32-bit integers.
    """
    groups = x.reshape(len(x), -1, ACTIVATION_GROUP)
    of_group: Float32 = np.abs(groups).max(axis=-1)
    of_row = of_group.max(axis=-1, keepdims=True, initial=0)
    of_row[of_row < 1e-30] = 0
    used = of_row > 0
    top = np.float32(LARGEST_MULTIPLIER)
    relative = np.divide(top, of_row, out=np.zeros_like(of_row), where=used)
    inverse = np.divide(127 * top, of_row, out=np.zeros_like(of_row), where=used)
    multipliers = np.clip(np.ceil(of_group * relative), 1, top)
    codes = np.rint(groups * (inverse / multipliers)[..., None]).astype(np.int8)
    scales: Float32 = np.divide(of_row[:, 0], 127 * top, dtype=np.float32)
    return QuantizedActivations(codes.reshape(x.shape), multipliers.astype(np.int16), scales)


def quant_matmul_int8(
    x: Float32, blocks: Bytes, bias: Float32 | None = None, *, format: str, columns: int
) -> Float32:
    """`quant_matmul` of the activations rounded to 8 bits: what the CPU kernels compute."""
    rounded = quantize_activations(x).values()
    return quant_matmul(rounded, blocks, bias, format=format, columns=columns)


def rotary_angles(
    positions: Int32, inverse_frequencies: Float32, *, magnitude: float = 1.0
) -> Float32:
    """int32 [T], float32 [R / 2] -> float32 [T, R]: cosines, then sines, of every token's angles.

    angle = position * inverse_frequency (float64); both are multiplied by magnitude. Su et al.,
    "RoFormer", 2021; magnitude as in YaRN (Peng et al., 2023).
    """
    angles = positions.astype(np.float64)[:, None] * inverse_frequencies.astype(np.float64)
    return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * magnitude).astype(np.float32)


def rotate(x: Float32, angles: Float32, *, style: Literal["norm", "neox"]) -> Float32:
    """float32 [T, heads, D], angles [T, R] -> the same shape with the first R dims rotated.

    "norm" rotates the pairs (2i, 2i + 1), "neox" the pairs (i, i + R / 2).
    """
    half = angles.shape[1] // 2
    cos, sin = angles[:, None, :half], angles[:, None, half:]
    if style == "norm":
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = x[..., first], x[..., second]
    rotated = x.copy()
    rotated[..., first] = a * cos - b * sin
    rotated[..., second] = a * sin + b * cos
    return rotated


def _tokens(row_starts: Int32) -> Iterator[tuple[int, int]]:
    """(row, token) of every token of the step."""
    for row in range(len(row_starts) - 1):
        for token in range(row_starts[row], row_starts[row + 1]):
            yield row, token


def rotary_page_write(
    q: Float32,
    k: Float32,
    v: Float32,
    positions: Int32,
    row_starts: Int32,
    page_table: Int32,
    angles: Float32,
    pool: Float16,
    *,
    layer: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    style: Literal["norm", "neox"],
) -> tuple[Float32, Float16]:
    """Rotate q and k; write k (rotated) and v to the pages of their rows.

    q float32 [T, H*D], k and v float32 [T, G*D], positions int32 [T], row_starts int32 [B + 1],
    page_table int32 [B, P], angles float32 [T, R] of rotary_angles (R = 0: no rotation),
    pool float16 [L, pages, 2, G, page_size, D] -> (q rotated [T, H*D], the written pool).
    The operator writes the pool in place; this function returns a copy.
    """
    page_size = pool.shape[4]
    written = pool.copy()
    tokens = len(positions)
    keys = rotate(k.reshape(tokens, kv_heads, head_dim), angles, style=style)
    values = v.reshape(tokens, kv_heads, head_dim)
    for row, token in _tokens(row_starts):
        page = page_table[row, positions[token] // page_size]
        slot = positions[token] % page_size
        written[layer, page, 0, :, slot] = keys[token].astype(pool.dtype)
        written[layer, page, 1, :, slot] = values[token].astype(pool.dtype)
    queries = q.reshape(tokens, heads, head_dim)
    return rotate(queries, angles, style=style).reshape(q.shape), written


def paged_attention(
    q: Float32,
    pool: Float16,
    positions: Int32,
    row_starts: Int32,
    page_table: Int32,
    sinks: Float32 | None = None,
    *,
    layer: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> Float32:
    """float32 [T, H*D] -> float32 [T, H*D]: causal attention over each row's pages.

    Token t of row b attends to the positions p <= positions[t] of row b, and with a window only to
    positions[t] - p < window. Head h reads key-value head h // (H / G). The logits are
    scale * q.k, then with a softcap softcap * tanh(logit / softcap); sinks float32 [H] adds one
    more logit to the denominator of each softmax. Computed in float64.
    Vaswani et al., 2017; pages as in Kwon et al., "PagedAttention", 2023.
    """
    page_size = pool.shape[4]
    queries = q.reshape(len(positions), kv_heads, heads // kv_heads, head_dim).astype(np.float64)
    output = np.zeros_like(queries)
    for row, token in _tokens(row_starts):
        last = int(positions[token])
        first = max(0, last - window + 1) if window else 0
        pages = page_table[row, : last // page_size + 1]
        cached = pool[layer, pages].astype(np.float64)  # [pages, 2, G, page_size, D]
        flat = cached.transpose(1, 2, 0, 3, 4).reshape(2, kv_heads, -1, head_dim)
        keys, values = flat[:, :, first : last + 1]
        logits = scale * np.einsum("ghd,gpd->ghp", queries[token], keys)
        if softcap:
            logits = softcap * np.tanh(logits / softcap)
        if sinks is not None:
            extra = sinks.astype(np.float64).reshape(kv_heads, -1, 1)
            logits = np.concatenate([logits, extra], axis=-1)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        output[token] = np.einsum("ghp,gpd->ghd", weights[..., : last + 1 - first], values)
    return output.reshape(q.shape).astype(np.float32)


def gated_activation(gate: Float32, up: Float32, *, activation: Literal["silu", "gelu"]) -> Float32:
    """float32 [T, F], [T, F] -> activation(gate) * up.

    silu(x) = x / (1 + exp(-x)); gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
    Shazeer, "GLU Variants Improve Transformer", 2020.
    """
    x = gate.astype(np.float64)
    if activation == "silu":
        gated = x * np.exp(-np.logaddexp(0, -x))
    else:
        gated = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return (gated * up).astype(np.float32)
