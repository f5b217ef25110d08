"""Dense families of 2019 to 2024 that are still served."""

from pipelines.conversion.architectures.architecture import Architecture

OLDER = (
    Architecture(
        name="gpt2",
        rotary_style="none",
        norm_kind="layer",
        gated=False,
        activation="gelu",
        position_embedding=True,
    ),
    Architecture(
        name="starcoder",
        rotary_style="none",
        norm_kind="layer",
        gated=False,
        activation="gelu",
        position_embedding=True,
    ),
    Architecture(
        name="starcoder2", rotary_style="neox", norm_kind="layer", gated=False, activation="gelu"
    ),
    Architecture(
        name="codeshell", rotary_style="neox", norm_kind="layer", gated=False, activation="gelu"
    ),
    Architecture(
        name="gptneox",
        rotary_style="neox",
        norms="parallel",
        norm_kind="layer",
        gated=False,
        activation="gelu",
        reads=frozenset({"use_parallel_residual"}),
    ),
    Architecture(
        name="falcon",
        rotary_style="neox",
        norms="parallel",
        norm_kind="layer",
        attention_norm="attn_norm_2",
        feed_forward_norm="attn_norm",
        gated=False,
        activation="gelu",
    ),
    Architecture(
        name="phi2",
        rotary_style="neox",
        norms="parallel",
        norm_kind="layer",
        gated=False,
        activation="gelu",
    ),
    Architecture(
        name="stablelm",
        rotary_style="neox",
        norm_kind="layer",
        without_norm="parallel",
        ignores=frozenset({"use_parallel_residual"}),
    ),
    Architecture(
        name="nemotron",
        rotary_style="neox",
        norm_kind="layer",
        gated=False,
        activation="relu_squared",
    ),
    Architecture(name="orion", rotary_style="neox", norm_kind="layer"),
    Architecture(
        name="olmo",
        rotary_style="norm",
        norm_kind="layer",
        norm_weights=False,
        reads=frozenset({"attention.clamp_kqv"}),
    ),
    Architecture(name="plamo", rotary_style="neox", norms="parallel"),
    Architecture(name="qwen", rotary_style="neox", feed_forward_length=False),
    Architecture(name="chatglm", rotary_style="norm", fused_gate_up=True),
    Architecture(
        name="openelm",
        layered=True,
        rotary_style="neox",
        query_key_norm="before",
        tied_only=True,
    ),
    Architecture(name="baichuan", rotary_style="norm", alibi=8.0, alibi_layers=40),
    Architecture(
        name="bloom",
        rotary_style="none",
        norm_kind="layer",
        gated=False,
        activation="gelu",
        alibi=8.0,
        embedding_norm=True,
    ),
    Architecture(
        name="mpt",
        rotary_style="none",
        norm_kind="layer",
        gated=False,
        activation="gelu",
        position_embedding=True,
        reads=frozenset({"attention.clamp_kqv", "attention.max_alibi_bias"}),
    ),
    Architecture(name="refact", rotary_style="none", alibi=8.0),
    Architecture(name="xverse", rotary_style="norm"),
)
