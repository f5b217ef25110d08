"""Convolution along a sequence, whose last inputs are its state."""

from typing import Literal

import numpy as np

from runtime.ops.reference.activations import gated_activation
from runtime.ops.reference.blocks import Float32, Int32


def causal_convolution(
    x: Float32,
    weight: Float32,
    bias: Float32 | None,
    row_starts: Int32,
    state_starts: Int32,
    state_slots: Int32,
    states: Float32,
    *,
    offset: int,
    activation: Literal["", "silu"] = "",
) -> tuple[Float32, Float32]:
    """float32 [T, C], taps [C, K] -> (float32 [T, C], the written states [slots, S]).

    y[t, c] = activation(sum over k of weight[c, k] * x[t - K + 1 + k, c] + bias[c]). Before a row's
    first token stands what the slot state_starts[b] holds at `offset`, [K - 1, C], or zeros where
    that is -1. The last K - 1 inputs after token t are written to the slot state_slots[t] unless it
    is -1. The operator writes the states in place; this function returns a copy.
    Depthwise and causal, as in Gu and Dao, "Mamba", 2023.
    """
    channels, taps = weight.shape
    written = states.copy()
    y = np.zeros_like(x)
    place = slice(offset, offset + (taps - 1) * channels)
    for row, start in enumerate(state_starts):
        before = np.zeros((taps - 1, channels), np.float32)
        if start >= 0:
            before = states[start, place].reshape(before.shape)
        first, end = row_starts[row], row_starts[row + 1]
        inputs = np.concatenate([before, x[first:end]])
        for token in range(first, end):
            window = inputs[token - first : token - first + taps]
            for tap in range(taps):
                y[token] += weight[:, tap] * window[tap]
            if state_slots[token] >= 0:
                written[state_slots[token], place] = window[1:].reshape(-1)
    if bias is not None:
        y += bias
    if activation:
        y = gated_activation(y, np.ones_like(y), activation=activation)
    return y, written
