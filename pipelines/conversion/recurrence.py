"""Recurrent layers as nodes."""

import numpy as np

from pipelines.conversion.architectures import (
    DeltaAttention,
    DeltaNet,
    Layer,
    Recurrence,
    Selection,
    ShortConvolution,
    StateSpace,
)
from pipelines.conversion.nodes import Nodes
from pipelines.conversion.pools import States
from runtime.gguf import TensorInfo


def state_writers(layer: Layer) -> int:
    """How many nodes of a layer have a state."""
    if layer.recurrence is None:
        return 0
    if isinstance(layer.recurrence, DeltaAttention):
        return len(layer.recurrence.taps) + 1
    return 1 if isinstance(layer.recurrence, ShortConvolution) else 2


def recurrence_nodes(
    nodes: Nodes, states: States, block: str, weights: Recurrence, hidden: str
) -> str:
    """Write a recurrence on a normalized input."""
    if isinstance(weights, ShortConvolution):
        mixed = _short_convolution(nodes, states, block, weights, hidden)
    elif isinstance(weights, StateSpace):
        mixed = _state_space(nodes, states, block, weights, hidden)
    elif isinstance(weights, DeltaAttention):
        mixed = _delta_attention(nodes, states, block, weights, hidden)
    else:
        mixed = _delta_net(nodes, states, block, weights, hidden)
    return nodes.linear(f"{block}.recurrence_output", weights.output, mixed)


def _convolution(
    nodes: Nodes,
    states: States,
    name: str,
    taps: TensorInfo,
    hidden: str,
    activation: str = "",
    bias: TensorInfo | None = None,
) -> str:
    count = taps.shape[-1]
    channels = taps.rows * taps.columns // count
    inputs, outputs, offset = states.next(name, channels * (count - 1))
    nodes.node(
        "CausalConvolution",
        {
            "x": hidden,
            "weight": nodes.shaped(taps, channels, count),
            "bias": nodes.vector(bias) if bias is not None else "",
            **inputs,
        },
        {"y": name, **outputs},
        offset=offset,
        activation=activation,
    )
    return name


def _short_convolution(
    nodes: Nodes, states: States, block: str, weights: ShortConvolution, hidden: str
) -> str:
    name = f"{block}.shortconv"
    width, _ = weights.taps.shape
    parts = tuple(f"{name}_{each}" for each in "bcx")
    nodes.split(nodes.linear(f"{name}_in", weights.projection, hidden), parts, (width,) * 3)
    before, after, inner = parts
    gated = nodes.plain("Mul", f"{name}_bx", before, inner)
    return nodes.plain(
        "Mul", f"{name}_gated", after, _convolution(nodes, states, name, weights.taps, gated)
    )


def _delta_net(nodes: Nodes, states: States, block: str, weights: DeltaNet, hidden: str) -> str:
    mixed = nodes.linear(f"{block}.attn_qkv", weights.projection, hidden)
    gate = nodes.linear(f"{block}.attn_gate", weights.gate, hidden)
    alpha, beta = _alpha_beta(nodes, block, weights, hidden)
    convolved = _convolution(nodes, states, f"{block}.conv", weights.taps, mixed, "silu")
    name = f"{block}.delta"
    inputs, outputs, offset = states.next(name, weights.heads * weights.head_dim**2)
    nodes.node(
        "GatedDeltaNet",
        {
            "x": convolved,
            "alpha": alpha,
            "beta": beta,
            "decay": nodes.vector(weights.decay),
            "step_bias": nodes.vector(weights.step_bias),
            **inputs,
        },
        {"y": name, **outputs},
        offset=offset,
        heads=weights.heads,
        key_heads=weights.key_heads,
        head_dim=weights.head_dim,
        epsilon=nodes.epsilon,
        interleaved=int(weights.is_interleaved),
    )
    normed = nodes.rms_norm(f"{block}.ssm_norm", name, nodes.vector(weights.norm))
    nodes.node(
        "GatedActivation",
        {"gate": gate, "up": normed},
        {"y": f"{block}.delta_gated"},
        activation="silu",
    )
    return f"{block}.delta_gated"


def _delta_attention(
    nodes: Nodes, states: States, block: str, weights: DeltaAttention, hidden: str
) -> str:
    convolved: list[str] = []
    for part, linear, taps in zip("qkv", weights.projections, weights.taps, strict=True):
        projected = nodes.linear(f"{block}.attn_{part}", linear, hidden)
        name = f"{block}.conv_{part}"
        convolved.append(_convolution(nodes, states, name, taps, projected, "silu"))
    alpha, gate = (
        nodes.linear(f"{name}_b", outer, nodes.linear(f"{name}_a", inner, hidden))
        for name, (inner, outer) in (
            (f"{block}.ssm_f", weights.alpha),
            (f"{block}.ssm_g", weights.gate),
        )
    )
    name = f"{block}.delta"
    inputs, outputs, offset = states.next(name, weights.heads * weights.head_dim**2)
    nodes.node(
        "GatedDeltaNet",
        {
            "x": nodes.joined(f"{block}.conv", *convolved, axis=1),
            "alpha": alpha,
            "beta": nodes.linear(f"{block}.ssm_beta", weights.beta, hidden),
            "decay": nodes.shaped(weights.decay, -1),
            "step_bias": nodes.vector(weights.step_bias),
            **inputs,
        },
        {"y": name, **outputs},
        offset=offset,
        heads=weights.heads,
        key_heads=weights.heads,
        head_dim=weights.head_dim,
        epsilon=nodes.epsilon,
        interleaved=0,
    )
    normed = nodes.rms_norm(f"{block}.ssm_norm", name, nodes.vector(weights.norm))
    opened = nodes.plain("Sigmoid", f"{block}.ssm_g_open", gate)
    return nodes.plain("Mul", f"{block}.delta_gated", normed, opened)


def _alpha_beta(nodes: Nodes, block: str, weights: DeltaNet, hidden: str) -> tuple[str, str]:
    """Of each head, as two values [T, heads]."""
    alpha, beta = f"{block}.ssm_alpha", f"{block}.ssm_beta"
    if len(weights.alpha_beta) == 2:
        of_alpha, of_beta = weights.alpha_beta
        return nodes.linear(alpha, of_alpha, hidden), nodes.linear(beta, of_beta, hidden)
    (fused,) = weights.alpha_beta
    each = weights.heads // weights.key_heads
    both = nodes.linear(f"{block}.ssm_ba", fused, hidden)
    by_key = nodes.reshaped(f"{both}.heads", both, weights.key_heads, 2 * each)
    nodes.split(by_key, (f"{beta}.heads", f"{alpha}.heads"), (each, each), axis=2)
    return (
        nodes.reshaped(alpha, f"{alpha}.heads", weights.heads),
        nodes.reshaped(beta, f"{beta}.heads", weights.heads),
    )


def _state_space(nodes: Nodes, states: States, block: str, weights: StateSpace, hidden: str) -> str:
    width, by_group = weights.width, weights.groups * weights.state_size
    projected = nodes.linear(f"{block}.ssm_in", weights.projection, hidden)
    gate, mixed, steps, *parts = (
        f"{block}.ssm_{each}" for each in ("gate", "mixed", "steps", "x", "b", "c")
    )
    if weights.selection is None:
        nodes.split(projected, (gate, mixed, steps), (width, width + 2 * by_group, weights.heads))
    else:
        nodes.split(projected, (mixed, gate), (width, width))
    name = f"{block}.conv"
    convolved = _convolution(nodes, states, name, weights.taps, mixed, "silu", weights.taps_bias)
    if weights.selection is None:
        nodes.split(convolved, tuple(parts), (width, by_group, by_group))
    else:
        parts = [convolved, *_selected(nodes, block, weights.selection, steps, convolved)]
    name = f"{block}.scan"
    inputs, outputs, offset = states.next(name, width * weights.state_size)
    nodes.node(
        "SelectiveScan",
        {
            **dict(zip(("x", "input", "output"), parts, strict=True)),
            "steps": steps,
            "decay": nodes.vector(weights.decay),
            "skip": nodes.shaped(weights.skip, -1),
            "step_bias": nodes.vector(weights.step_bias) if weights.step_bias is not None else "",
            **inputs,
        },
        {"y": name, **outputs},
        offset=offset,
        heads=weights.heads,
        groups=weights.groups,
        state_size=weights.state_size,
    )
    gated = f"{block}.scan_gated"
    nodes.node("GatedActivation", {"gate": gate, "up": name}, {"y": gated}, activation="silu")
    if weights.norm is None:
        return gated
    if weights.groups == 1:
        return nodes.rms_norm(f"{block}.ssm_norm", gated, nodes.shaped(weights.norm, -1))
    ones = _ones(nodes, width // weights.groups)
    normed = nodes.rms_norm(f"{block}.ssm_norm", gated, ones)
    return nodes.plain("Mul", f"{block}.ssm_normed", normed, nodes.shaped(weights.norm, -1))


def _selected(
    nodes: Nodes, block: str, weights: Selection, steps: str, channels: str
) -> tuple[str, str]:
    """Input and output of the states; the steps are written as `steps`."""
    names = ("dt", "b", "c")
    parts = [f"{block}.ssm_{each}" for each in names]
    rank = weights.steps.weight.columns
    states = (weights.projection.weight.rows - rank) // 2
    selected = nodes.linear(f"{block}.ssm_x", weights.projection, channels)
    nodes.split(selected, tuple(parts), (rank, states, states))
    for index, norm in enumerate(weights.norms):
        factors = _ones(nodes, (rank, states)[index > 0]) if norm is None else nodes.vector(norm)
        parts[index] = nodes.rms_norm(f"{parts[index]}_norm", parts[index], factors)
    nodes.linear(steps, weights.steps, parts[0])
    return parts[1], parts[2]


def _ones(nodes: Nodes, count: int) -> str:
    return nodes.stored(f"{count}.ones", np.ones(count, np.float32))
