"""Families whose layers are dense in most of their files."""

from pipelines.conversion.architectures.architecture import Architecture, Routing

SCALES = frozenset({"embedding_scale", "residual_scale", "attention.scale"})
SOFTCAPS = frozenset({"attn_logit_softcapping", "final_logit_softcapping"})

DENSE = (
    Architecture(
        name="llama",
        rotary_style="norm",
        experts=Routing(),
        reads=frozenset({"attention.scale"}),
    ),
    Architecture(
        name="mistral3",
        rotary_style="norm",
        experts=Routing(),
        reads=frozenset({"attention.scale", "attention.temperature_scale"}),
    ),
    Architecture(name="qwen2", rotary_style="neox"),
    Architecture(name="qwen2vl", rotary_style="neox", rotary_sections="ignored"),
    Architecture(name="qwen3", rotary_style="neox", query_key_norm="before"),
    Architecture(
        name="qwen3vl", rotary_style="neox", rotary_sections="ignored", query_key_norm="before"
    ),
    Architecture(
        name="gemma",
        rotary_style="neox",
        activation="gelu",
        tied_only=True,
        embedding_by_width=True,
    ),
    Architecture(
        name="gemma2",
        rotary_style="neox",
        norms="both",
        activation="gelu",
        tied_only=True,
        window=4096,
        window_period=2,
        embedding_by_width=True,
        scaled_by_width_at=46,
        attention_softcap=50.0,
        logit_softcap=30.0,
        reads=SOFTCAPS,
    ),
    Architecture(
        name="gemma3",
        rotary_style="neox",
        norms="both",
        activation="gelu",
        query_key_norm="before",
        window_period=6,
        window_base=10000.0,
        window_scaled=False,
        embedding_by_width=True,
        scaled_by_width_at=62,
        reads=SOFTCAPS,
    ),
    Architecture(name="phi3", rotary_style="neox", fused_gate_up=True, window_ignored=True),
    Architecture(
        name="smollm3",
        rotary_style="norm",
        unrotated_period=4,
        reads=frozenset({"attention.scale"}),
    ),
    Architecture(
        name="granite",
        rotary_style="norm",
        rotary_switch=True,
        logit_scale="divide",
        reads=SCALES,
    ),
    Architecture(
        name="minicpm",
        rotary_style="norm",
        embedding_scale=12.0,
        residual_depth=1.4,
        logit_width=256,
        logit_scale="divide",
        reads=SCALES,
    ),
    Architecture(name="internlm2", rotary_style="norm"),
    Architecture(name="ernie4_5", rotary_style="norm", rotary_sections="ignored"),
    Architecture(name="paddleocr", rotary_style="neox", rotary_sections="ignored"),
    Architecture(name="seed_oss", rotary_style="neox", feed_forward_norm="post_attention_norm"),
    Architecture(name="exaone", rotary_style="neox"),
    Architecture(
        name="olmo2",
        rotary_style="neox",
        norms="after",
        query_key_norm="before",
        window_period=4,
        window_scaled=False,
    ),
    Architecture(
        name="exaone4",
        rotary_style="neox",
        norms="after",
        query_key_norm="before",
        window_period=4,
        rotated="sliding",
    ),
    Architecture(
        name="glm4", rotary_style="norm", rotary_sections="neox", norms="both", fused_gate_up=True
    ),
    Architecture(
        name="command-r",
        rotary_style="norm",
        norms="parallel",
        norm_kind="layer",
        tied_only=True,
        logit_scale="multiply",
    ),
    Architecture(
        name="cohere2",
        rotary_style="norm",
        norms="parallel",
        norm_kind="layer",
        tied_only=True,
        window_period=4,
        rotated="sliding",
        logit_scale="multiply",
    ),
    Architecture(name="hunyuan-dense", rotary_style="neox", query_key_norm="after"),
    Architecture(
        name="hunyuan_vl", rotary_style="neox", rotary_sections="ignored", query_key_norm="after"
    ),
    Architecture(name="maincoder", rotary_style="norm", query_key_norm="after"),
    Architecture(name="pangu-embedded", rotary_style="neox"),
    Architecture(
        name="arcee",
        rotary_style="norm",
        gated=False,
        activation="relu_squared",
        reads=frozenset({"attention.scale"}),
    ),
    Architecture(
        name="jais2",
        rotary_style="neox",
        norm_kind="layer",
        gated=False,
        activation="relu_squared",
    ),
)
