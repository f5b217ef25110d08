"""Mixture of experts: how experts are chosen for a token, and the sum of their outputs."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from runtime.ops.reference.activations import gated_activation
from runtime.ops.reference.blocks import Bytes, Float32, Multiply, product

CLAMP_LIMIT = 7.0
CLAMP_SLOPE = 1.702
MIN_SUM = np.float32(2**-14)

ExpertActivation = Literal[
    "silu", "gelu", "clamped_silu", "relu_squared", "relu", "capped_silu", "silu_of_capped"
]


def mixture_of_experts(
    x: Float32,
    router: Float32,
    gate: Bytes | None,
    up: Bytes,
    down: Bytes,
    gate_bias: Float32 | None = None,
    up_bias: Float32 | None = None,
    down_bias: Float32 | None = None,
    selection_bias: Float32 | None = None,
    gate_scale: Float32 | None = None,
    up_scale: Float32 | None = None,
    down_scale: Float32 | None = None,
    *,
    columns: int,
    hidden: int,
    formats: str,
    used: int,
    renormalize: int,
    activation: ExpertActivation,
    gating: Literal["softmax", "sigmoid"] = "softmax",
    groups: int = 1,
    groups_used: int = 1,
    scale: float = 1.0,
    limit: float = 0.0,
    multiply: Multiply = product,
) -> Float32:
    """float32 [T, C], logits [T, E] -> float32 [T, C]: the weighted sum of the best experts.

    gate and up are uint8 [E * F, row_bytes], down [E * C, row_bytes]: the matrices of the experts,
    concatenated; biases float32 [E, F], [E, F], [E, C]; C = columns, F = hidden. For each token the
    `used` experts that `choose` returns compute down(activation(gate(x), up(x))), or without gates
    down(activation(up(x))), times their shares. Where only the gates' matrix is missing, `up` holds
    them before each expert's own rows. Scales [E] are factors of what the matrices give.
    Shazeer et al., "Outrageously Large Neural Networks", 2017.
    """

    def of_experts(blocks: Bytes, rows: int) -> Bytes:
        """The rows of each expert, as views [E, rows, row_bytes]."""
        return blocks.reshape(-1, rows, blocks.shape[1])

    gates: Bytes | None
    if gate is None and activation != "relu_squared":
        both = of_experts(up, 2 * hidden)
        gates, ups = both[:, :hidden], both[:, hidden:]
        formats = f"{formats.split()[0]} {formats}"
    else:
        gates = None if gate is None else of_experts(gate, hidden)
        ups = of_experts(up, hidden)
    downs = of_experts(down, columns)
    scales = (gate_scale, up_scale, down_scale)
    names = formats.split() if gates is not None else ["", *formats.split()]
    kinds = tuple(zip(names, (columns, columns, hidden), strict=True))

    def linear(
        which: int, expert: int, values: Float32, blocks: Bytes, bias: Float32 | None
    ) -> Float32:
        y = multiply(values, blocks[expert], *kinds[which])
        if (factors := scales[which]) is not None:
            y = y * factors[expert]
        return y if bias is None else y + bias[expert]

    chosen = [
        choose(
            logits,
            selection_bias,
            used=used,
            gating=gating,
            renormalize=bool(renormalize),
            groups=groups,
            groups_used=groups_used,
        )
        for logits in router
    ]
    experts = np.array([experts for experts, _ in chosen]).reshape(len(x), used)
    outputs = np.zeros((used, *x.shape), np.float32)
    for expert in np.unique(experts):
        tokens, ranks = np.nonzero(experts == expert)
        values = x[tokens]
        raised = linear(1, expert, values, ups, up_bias)
        opened = raised if gates is None else linear(0, expert, values, gates, gate_bias)
        gated = expert_activation(opened, raised, activation=activation, limit=limit)
        outputs[ranks, tokens] = linear(2, expert, gated, downs, down_bias)
    output = np.zeros(x.shape, np.float32)
    for rank in range(used):  # in the order of a token's choice
        shares = np.array([shares[rank] for _, shares in chosen], np.float32)
        output += (shares * np.float32(scale))[:, None] * outputs[rank]
    return output


def choose(
    logits: Float32,
    selection_bias: Float32 | None = None,
    *,
    used: int,
    gating: Literal["softmax", "sigmoid"] = "softmax",
    renormalize: bool,
    groups: int = 1,
    groups_used: int = 1,
) -> tuple[npt.NDArray[np.intp], Float32]:
    """Logits [E] -> the chosen experts [used], the best first, and their shares [used].

    Probabilities are the softmax or the sigmoid of the logits. The experts with the largest
    probability + selection_bias [E] are chosen (the first of equal ones); with `groups`, only from
    the `groups_used` groups with the largest sum of their best two. A share is the expert's
    probability, with `renormalize` divided by the sum over the chosen ones (at least 2^-14).
    Mixtral (Jiang et al., 2024); DeepSeek-V3 (arXiv 2412.19437), section 2.1.2.
    """
    odds = np.exp(logits - logits.max()) if gating == "softmax" else 1 / (1 + np.exp(-logits))
    whole = odds.sum() if gating == "softmax" else np.float32(1)
    scores: Float32 = odds / whole
    if selection_bias is not None:
        scores = scores + selection_bias
    elif gating == "softmax" and groups == 1:
        scores = logits  # the same order, also where an exponential underflows
    if groups > 1:
        by_group = scores.reshape(groups, -1)
        of_group = np.sort(by_group, axis=1)[:, -2:].sum(axis=1)
        best = np.argsort(-of_group, kind="stable")[:groups_used]
        masked = np.full_like(by_group, -np.inf)
        masked[best] = by_group[best]
        scores = masked.reshape(-1)
    chosen = np.argsort(-scores, kind="stable")[:used]
    if renormalize:
        whole = odds[chosen].sum()
        if gating == "sigmoid":
            whole = max(whole, MIN_SUM)
    return chosen, odds[chosen] / whole


def expert_activation(
    gate: Float32, up: Float32, *, activation: ExpertActivation, limit: float = 0.0
) -> Float32:
    """float32 [T, F], [T, F] -> [T, F]: `gated_activation`, or one that only experts have.

    clamped_silu is g / (1 + exp(-1.702 g)) * (u + 1) with g = min(gate, 7) and u = up clipped to
    -7..7 (OpenAI, gpt-oss model card, 2025); relu_squared is max(up, 0)^2, relu max(gate, 0) * up.
    capped_silu is silu(gate) at most limit, silu_of_capped silu(gate at most limit), both times up
    clipped to -limit..limit (Step 3.5 and DeepSeek-V4).
    """
    if activation == "relu":
        return np.maximum(gate, 0) * up
    if activation == "capped_silu":
        opened = gated_activation(gate, np.ones_like(up), activation="silu")
        return np.minimum(opened, np.float32(limit)) * np.clip(up, -limit, limit)
    if activation == "silu_of_capped":
        bounded = np.minimum(gate, np.float32(limit))
        return gated_activation(bounded, np.clip(up, -limit, limit), activation="silu")
    if activation == "relu_squared":
        squared: Float32 = np.maximum(up, 0) ** 2
        return squared
    if activation != "clamped_silu":
        return gated_activation(gate, up, activation=activation)
    g = np.minimum(gate, CLAMP_LIMIT).astype(np.float64)
    u = np.clip(up, -CLAMP_LIMIT, CLAMP_LIMIT)
    gated: Float32 = (g / (1 + np.exp(-CLAMP_SLOPE * g)) * (u + 1)).astype(np.float32)
    return gated
