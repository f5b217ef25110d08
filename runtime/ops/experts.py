"""The definition of MixtureOfExperts in plain NumPy, as `reference` defines the other operators."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from runtime.ops.reference import Bytes, Float32, dequantize_rows, gated_activation

CLAMP_LIMIT = 7.0
CLAMP_SLOPE = 1.702

ExpertActivation = Literal["silu", "gelu", "clamped_silu"]


def mixture_of_experts(
    x: Float32,
    router: Float32,
    gate: Bytes,
    up: Bytes,
    down: Bytes,
    gate_bias: Float32 | None = None,
    up_bias: Float32 | None = None,
    down_bias: Float32 | None = None,
    *,
    columns: int,
    hidden: int,
    formats: str,
    used: int,
    renormalize: int,
    activation: ExpertActivation,
    scale: float = 1.0,
    weights: Callable[[Bytes, str, int], Float32] = dequantize_rows,
) -> Float32:
    """float32 [T, C], logits [T, E] -> float32 [T, C]: the sum of what the best experts answer.

    gate and up are uint8 [E * F, row_bytes], down [E * C, row_bytes]: the matrices of the experts
    one after the other; biases float32 [E, F], [E, F], [E, C]; C = columns, F = hidden. Of each
    token the `used` experts with the largest logits (of equal ones the first) answer
    down(activation(gate(x), up(x))); their shares are the softmax over all logits, or with
    renormalize over the chosen ones, times scale. Shazeer et al., "Outrageously Large Neural
    Networks", 2017; renormalized as in Mixtral (Jiang et al., 2024).
    """
    rows = (hidden, hidden, columns)
    kinds = tuple(zip(formats.split(), (columns, columns, hidden), strict=True))

    def linear(
        which: int, expert: int, values: Float32, blocks: Bytes, bias: Float32 | None
    ) -> Float32:
        some = slice(expert * rows[which], (expert + 1) * rows[which])
        y: Float32 = values @ weights(blocks[some], *kinds[which]).T
        return y if bias is None else y + bias[expert]

    output = np.zeros(x.shape, np.float32)
    for token, logits in enumerate(router):
        chosen = np.argsort(-logits, kind="stable")[:used]
        counted = logits[chosen] if renormalize else logits
        total = np.exp(counted - logits.max(), dtype=np.float32).sum()
        for expert in chosen:
            share = np.exp(logits[expert] - logits.max(), dtype=np.float32) / total * scale
            values = x[token : token + 1]
            gated = expert_activation(
                linear(0, expert, values, gate, gate_bias),
                linear(1, expert, values, up, up_bias),
                activation=activation,
            )
            output[token] += share * linear(2, expert, gated, down, down_bias)[0]
    return output


def expert_activation(gate: Float32, up: Float32, *, activation: ExpertActivation) -> Float32:
    """float32 [T, F], [T, F] -> [T, F]: `gated_activation`, or gpt-oss's clamped one.

    clamped_silu is g / (1 + exp(-1.702 g)) * (u + 1) with g = min(gate, 7) and u = up clipped to
    -7..7 (OpenAI, gpt-oss model card, 2025).
    """
    if activation != "clamped_silu":
        return gated_activation(gate, up, activation=activation)
    g = np.minimum(gate, CLAMP_LIMIT).astype(np.float64)
    u = np.clip(up, -CLAMP_LIMIT, CLAMP_LIMIT)
    gated: Float32 = (g / (1 + np.exp(-CLAMP_SLOPE * g)) * (u + 1)).astype(np.float32)
    return gated
