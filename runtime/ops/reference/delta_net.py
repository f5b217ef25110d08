"""The gated delta rule: a matrix for each head, corrected towards each value at its key."""

import numpy as np

from runtime.ops.reference.blocks import Float32, Int32


def gated_delta_net(
    x: Float32,
    alpha: Float32,
    beta: Float32,
    decay: Float32,
    step_bias: Float32,
    row_starts: Int32,
    state_starts: Int32,
    state_slots: Int32,
    states: Float32,
    *,
    offset: int,
    heads: int,
    key_heads: int,
    head_dim: int,
    epsilon: float,
    interleaved: int,
) -> tuple[Float32, Float32]:
    """float32 [T, (2G + H) * D] -> (float32 [T, H * D], the written states [slots, S]).

    x holds the queries and keys of G heads and the values of H heads; queries and keys are divided
    by sqrt(their sum of squares + epsilon). Head h reads key head h // (H / G) where `interleaved`,
    else h % G. With g = exp(decay * softplus(alpha + step_bias)), [T, H] or one for each row of a
    state [T, H * D], and b = sigmoid(beta), [T, H], a head's state S [D, D] becomes
    S' = g S + k (b (v - (g S)^T k))^T, and y = S'^T q / sqrt(D).
    A row's S stands at `offset` in the slot state_starts[b], or is zero where that is -1; after
    token t it is written to the slot state_slots[t] unless that is -1. Computed in float64.
    Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024; gates by rows as in Kimi Team, "Kimi
    Linear", 2025.
    """
    width, size = heads * head_dim, heads * head_dim * head_dim
    place = slice(offset, offset + size)
    parts = np.split(x.astype(np.float64), [key_heads * head_dim, 2 * key_heads * head_dim], axis=1)
    q, k, v = (part.reshape(len(x), -1, head_dim) for part in parts)
    q, k = (each / np.sqrt((each**2).sum(-1, keepdims=True) + epsilon) for each in (q, k))
    of_head = np.arange(heads)
    of_head = of_head // (heads // key_heads) if interleaved else of_head % key_heads
    q, k = q[:, of_head], k[:, of_head]
    steps = np.logaddexp(0, alpha + step_bias.astype(np.float64)).reshape(len(x), heads, -1)
    kept = np.exp(decay.astype(np.float64)[:, None] * steps)
    share = 1 / (1 + np.exp(-beta.astype(np.float64)))
    written = states.copy()
    y = np.zeros((len(x), heads, head_dim))
    for row, start in enumerate(state_starts):
        state = np.zeros((heads, head_dim, head_dim))
        if start >= 0:
            state += states[start, place].reshape(state.shape)
        for t in range(row_starts[row], row_starts[row + 1]):
            state *= kept[t, :, :, None]
            error = v[t] - np.einsum("hij,hi->hj", state, k[t])
            state += np.einsum("hi,hj->hij", k[t], share[t, :, None] * error)
            y[t] = np.einsum("hij,hi->hj", state, q[t]) / np.sqrt(head_dim)
            if state_slots[t] >= 0:
                written[state_slots[t], place] = state.reshape(-1)
    return y.reshape(len(x), width).astype(np.float32), written
