"""Activations that gate one matrix of values by another."""

import math
from typing import Literal

import numpy as np

from runtime.ops.reference.blocks import Float32


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
