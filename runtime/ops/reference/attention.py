"""Rotary embedding, page writes and attention over pages."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from runtime.ops.reference.blocks import Float16, Float32, Int32


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
    """Yield (row, token) of every token of the step."""
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
    causal: int = 1,
) -> Float32:
    """float32 [T, H*D] -> float32 [T, H*D]: attention over each row's pages.

    Token t of row b attends to the positions p <= positions[t] of row b, and with a window only to
    positions[t] - p < window. With causal 0 it attends to all positions up to the row's last, and
    with a window to |positions[t] - p| <= window // 2. Head h reads key-value head h // (H / G).
    The logits are scale * q.k, then with a softcap softcap * tanh(logit / softcap); sinks
    float32 [H] adds one more logit to the denominator of each softmax. Computed in float64.
    Vaswani et al., 2017; pages as in Kwon et al., "PagedAttention", 2023.
    """
    page_size = pool.shape[4]
    queries = q.reshape(len(positions), kv_heads, heads // kv_heads, head_dim).astype(np.float64)
    output = np.zeros_like(queries)
    for row, token in _tokens(row_starts):
        own = last = int(positions[token])
        first = max(0, last - window + 1) if window else 0
        if not causal:
            last = int(positions[row_starts[row] : row_starts[row + 1]].max())
            if window:
                first, last = max(0, own - window // 2), min(last, own + window // 2)
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
