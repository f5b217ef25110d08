"""Selective state-space models: channels that each keep a state and forget it at a pace."""

import numpy as np

from runtime.ops.reference.blocks import Float32, Int32


def selective_scan(
    x: Float32,
    steps: Float32,
    input: Float32,
    output: Float32,
    decay: Float32,
    skip: Float32,
    step_bias: Float32 | None,
    row_starts: Int32,
    state_starts: Int32,
    state_slots: Int32,
    states: Float32,
    *,
    offset: int,
    heads: int,
    groups: int,
    state_size: int,
) -> tuple[Float32, Float32]:
    """float32 [T, H * D], [T, H], two [T, G * N] -> (float32 [T, H * D], the written states).

    With s = softplus(steps + step_bias), a channel's state h [N] becomes
    h' = exp(decay[head] * s) h + s x input, and y = h' . output + skip[head] * x. decay is [H, 1]
    or [H, N]. Head k reads the input and output of group k // (H / G).
    The state [H, D, N] of a row stands at `offset` in the slot state_starts[b], or is zero where
    that is -1; after token t it is written to the slot state_slots[t] unless that is -1. Computed
    in float64. Gu and Dao, "Mamba", 2023; Dao and Gu, "Transformers are SSMs", 2024.
    """
    tokens, width = x.shape
    size = width * state_size
    place = slice(offset, offset + size)
    raised = steps.astype(np.float64) + (0 if step_bias is None else step_bias)
    lengths = np.logaddexp(0, raised)
    by_head = x.astype(np.float64).reshape(tokens, heads, -1)
    group = np.arange(heads) // (heads // groups)
    read, wrote = (
        each.astype(np.float64).reshape(tokens, groups, state_size)[:, group]
        for each in (output, input)
    )
    kept = np.exp(lengths[:, :, None] * decay.astype(np.float64))
    written = states.copy()
    y = by_head * skip[:, None]
    for row, start in enumerate(state_starts):
        state = np.zeros((heads, width // heads, state_size))
        if start >= 0:
            state += states[start, place].reshape(state.shape)
        for t in range(row_starts[row], row_starts[row + 1]):
            entering = lengths[t, :, None] * by_head[t]
            state = kept[t, :, None] * state + entering[:, :, None] * wrote[t, :, None]
            y[t] += np.einsum("hdn,hn->hd", state, read[t])
            if state_slots[t] >= 0:
                written[state_slots[t], place] = state.reshape(-1)
    return y.reshape(tokens, width).astype(np.float32), written
