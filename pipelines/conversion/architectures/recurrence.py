"""Recurrent layers as files describe them."""

import numpy as np

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import (
    DeltaAttention,
    DeltaNet,
    Linear,
    Recurrence,
    Selection,
    ShortConvolution,
    StateSpace,
)
from runtime.gguf import TensorInfo

ATTENTION_INTERVAL = 4
"""Where a file does not say otherwise."""


def recurrent_layers(
    keys: Keys, architecture: Architecture, kv_heads: tuple[int, ...]
) -> tuple[bool, ...]:
    """Which layers are recurrent, by the number of their key-value heads or by the file's keys."""
    layers = len(kv_heads)
    if architecture.recurrence == "none" or architecture.recurrent_layers == "beside_attention":
        return (False,) * layers
    if architecture.recurrent_layers == "all":
        return (True,) * layers
    if architecture.recurrent_layers == "headless":
        hidden = (0,) * layers
        if architecture.one_part:
            hidden = keys.counts("feed_forward_length", None, layers)
        return tuple(
            heads == 0 and width == 0 for heads, width in zip(kv_heads, hidden, strict=True)
        )
    flags = keys.value("attention.recurrent_layers")
    interval = keys.count("full_attention_interval", ATTENTION_INTERVAL)
    if flags is None:
        return tuple((index + 1) % interval != 0 for index in range(len(kv_heads)))
    if not isinstance(flags, np.ndarray) or len(flags) < len(kv_heads):
        keys.fail("attention.recurrent_layers", f"is {flags}, no flag for each layer")
    return tuple(bool(flag) for flag in flags[: len(kv_heads)])


def recurrence_of(
    keys: Keys, tensors: Tensors, architecture: Architecture, block: str, width: int
) -> Recurrence:
    """Return the recurrence of one block, with its output matrix."""
    if architecture.recurrence == "short_convolution":
        return _short_convolution(keys, tensors, block, width)
    if architecture.recurrence == "mamba2":
        return _state_space(keys, tensors, block, width)
    if architecture.recurrence == "mamba":
        return _selective(keys, tensors, block, width)
    if architecture.recurrence == "delta_attention":
        return _delta_attention(keys, tensors, block, width)
    return _delta_net(keys, tensors, architecture, block, width)


def _short_convolution(keys: Keys, tensors: Tensors, block: str, width: int) -> ShortConvolution:
    taps = keys.count("shortconv.l_cache")
    if taps < 2:
        keys.fail("shortconv.l_cache", f"is {taps}, which keeps nothing")
    return ShortConvolution(
        projection=tensors.linear(f"{block}.shortconv.in_proj", 3 * width, width),
        taps=tensors.table(f"{block}.shortconv.conv.weight", width, taps),
        output=tensors.linear(f"{block}.shortconv.out_proj", width, width),
    )


def _delta_net(
    keys: Keys, tensors: Tensors, architecture: Architecture, block: str, width: int
) -> DeltaNet:
    heads, key_heads = keys.count("ssm.time_step_rank"), keys.count("ssm.group_count")
    head_dim, taps = keys.count("ssm.state_size"), keys.count("ssm.conv_kernel")
    values = heads * head_dim
    if heads % key_heads:
        keys.fail("ssm.time_step_rank", f"is {heads}, no multiple of the {key_heads} key heads")
    if keys.count("ssm.inner_size") != values:
        keys.fail("ssm.inner_size", f"is not {heads} heads of {head_dim}")
    mixed = 2 * key_heads * head_dim + values
    names = ("ssm_alpha", "ssm_beta")
    alpha_beta: tuple[Linear, ...]
    if f"{block}.ssm_ba.weight" in tensors:
        alpha_beta = (tensors.linear(f"{block}.ssm_ba", 2 * heads, width),)
    else:
        alpha_beta = tuple(tensors.linear(f"{block}.{name}", heads, width) for name in names)
    return DeltaNet(
        projection=tensors.linear(f"{block}.attn_qkv", mixed, width),
        gate=tensors.linear(f"{block}.attn_gate", values, width),
        alpha_beta=alpha_beta,
        taps=tensors.table(f"{block}.ssm_conv1d.weight", mixed, taps),
        decay=tensors.vector(f"{block}.ssm_a", heads),
        step_bias=tensors.vector(f"{block}.ssm_dt.bias", heads),
        norm=tensors.vector(f"{block}.ssm_norm.weight", head_dim),
        heads=heads,
        key_heads=key_heads,
        head_dim=head_dim,
        is_interleaved=architecture.interleaved_heads,
        output=tensors.linear(f"{block}.ssm_out", width, values),
    )


def _delta_attention(keys: Keys, tensors: Tensors, block: str, width: int) -> DeltaAttention:
    heads, head_dim = keys.count("attention.head_count"), keys.count("kda.head_dim")
    values, taps = heads * head_dim, keys.count("ssm.conv_kernel")

    def table(name: str, rows: int, columns: int) -> TensorInfo:
        # Converters write axes of one value, and quantizers leave out the first.
        shapes = {4: (1, rows, 1, columns), 3: (rows, 1, columns)}
        if columns == 1:
            shapes = {4: (1, 1, rows, 1), 3: (1, rows, 1)}
        return tensors.table(name, *shapes.get(tensors.rank(name), (rows, columns)))

    def narrowed(name: str) -> tuple[Linear, Linear]:
        first = tensors.linear(f"{block}.ssm_{name}_a", head_dim, width)
        return first, tensors.linear(f"{block}.ssm_{name}_b", values, head_dim)

    return DeltaAttention(
        projections=tuple(tensors.linear(f"{block}.attn_{each}", values, width) for each in "qkv"),
        taps=tuple(table(f"{block}.ssm_conv1d_{each}.weight", values, taps) for each in "qkv"),
        alpha=narrowed("f"),
        beta=tensors.linear(f"{block}.ssm_beta", heads, width),
        gate=narrowed("g"),
        decay=table(f"{block}.ssm_a", heads, 1),
        step_bias=tensors.vector(f"{block}.ssm_dt.bias", values),
        norm=tensors.vector(f"{block}.ssm_norm.weight", head_dim),
        heads=heads,
        head_dim=head_dim,
        output=tensors.linear(f"{block}.attn_output", width, values),
    )


def _state_space(keys: Keys, tensors: Tensors, block: str, width: int) -> StateSpace:
    heads, groups = keys.count("ssm.time_step_rank"), keys.count("ssm.group_count")
    inner, states = keys.count("ssm.inner_size"), keys.count("ssm.state_size")
    taps = keys.count("ssm.conv_kernel")
    if heads % groups or inner % heads:
        keys.fail(
            "ssm.time_step_rank",
            f"is {heads}, no multiple of the {groups} groups or no divisor of {inner} channels",
        )
    convolved = inner + 2 * groups * states
    name, bias = f"{block}.ssm_norm.weight", f"{block}.ssm_conv1d.bias"
    norm = None
    if name in tensors:
        # Quantizers leave out the axis of a single group.
        of_group = (
            (inner,) if groups == 1 and tensors.rank(name) == 1 else (groups, inner // groups)
        )
        norm = tensors.table(name, *of_group)
    return StateSpace(
        projection=tensors.linear(f"{block}.ssm_in", inner + convolved + heads, width),
        taps=tensors.table(f"{block}.ssm_conv1d.weight", convolved, taps),
        taps_bias=tensors.vector(bias, convolved) if bias in tensors else None,
        decay=tensors.table(f"{block}.ssm_a", heads, 1),
        skip=tensors.table(f"{block}.ssm_d", heads, 1),
        step_bias=tensors.vector(f"{block}.ssm_dt.bias", heads),
        selection=None,
        norm=norm,
        heads=heads,
        groups=groups,
        state_size=states,
        width=inner,
        output=tensors.linear(f"{block}.ssm_out", width, inner),
    )


def _selective(keys: Keys, tensors: Tensors, block: str, width: int) -> StateSpace:
    inner, states = keys.count("ssm.inner_size"), keys.count("ssm.state_size")
    taps, rank = keys.count("ssm.conv_kernel"), keys.count("ssm.time_step_rank")
    names = [f"{block}.ssm_{each}_norm.weight" for each in ("dt", "b", "c")]
    norms: tuple[TensorInfo | None, ...] = ()
    if all(name in tensors for name in names):
        sizes = (rank, states, states)
        norms = tuple(map(tensors.vector, names, sizes))
    elif keys.flag("ssm.dt_b_c_rms", False):
        norms = (None,) * 3
    return StateSpace(
        projection=tensors.linear(f"{block}.ssm_in", 2 * inner, width),
        taps=tensors.table(f"{block}.ssm_conv1d.weight", inner, taps),
        taps_bias=tensors.vector(f"{block}.ssm_conv1d.bias", inner),
        decay=tensors.table(f"{block}.ssm_a", inner, states),
        skip=tensors.vector(f"{block}.ssm_d", inner),
        step_bias=None,
        selection=Selection(
            projection=tensors.linear(f"{block}.ssm_x", rank + 2 * states, inner),
            steps=tensors.linear(f"{block}.ssm_dt", inner, rank),
            norms=norms,
        ),
        norm=None,
        heads=inner,
        groups=1,
        state_size=states,
        width=inner,
        output=tensors.linear(f"{block}.ssm_out", width, inner),
    )
