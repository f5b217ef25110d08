"""Families with experts."""

from pipelines.conversion.architectures.architecture import Architecture, Routing
from pipelines.conversion.architectures.dense import SCALES

CONFIGURED = Routing(renormalized=None, gating=None)

EXPERTS = (
    Architecture(name="qwen2moe", rotary_style="neox", experts=Routing(renormalized=False)),
    Architecture(name="qwen3moe", rotary_style="neox", query_key_norm="before", experts=Routing()),
    Architecture(
        name="qwen3vlmoe",
        rotary_style="neox",
        rotary_sections="ignored",
        query_key_norm="before",
        experts=Routing(),
    ),
    Architecture(
        name="gpt-oss",
        rotary_style="neox",
        feed_forward_norm="post_attention_norm",
        sinks=True,
        experts=Routing(activation="clamped_silu"),
        window_period=2,
    ),
    Architecture(
        name="granitemoe",
        rotary_style="norm",
        experts=Routing(),
        rotary_switch=True,
        logit_scale="divide",
        reads=SCALES,
    ),
    Architecture(
        name="deepseek2",
        rotary_style="norm",
        latent_attention=True,
        experts=CONFIGURED,
        reads=frozenset({"attention.temperature_scale", "nextn_predict_layers"}),
    ),
    Architecture(name="deepseek", rotary_style="norm", experts=Routing(renormalized=False)),
    Architecture(
        name="dots1",
        rotary_style="neox",
        query_key_norm="before",
        experts=CONFIGURED,
    ),
    Architecture(
        name="glm4moe",
        rotary_style="neox",
        rotary_sections="ignored",
        query_key_norm="before",
        query_key_norm_optional=True,
        feed_forward_norm="post_attention_norm",
        experts=CONFIGURED,
        reads=frozenset({"nextn_predict_layers"}),
    ),
    Architecture(
        name="olmoe",
        rotary_style="neox",
        query_key_norm="before",
        experts=Routing(renormalized=False),
    ),
    Architecture(
        name="mistral4",
        rotary_style="norm",
        latent_attention=True,
        experts=CONFIGURED,
        reads=frozenset({"attention.temperature_scale"}),
    ),
    Architecture(
        name="ernie4_5-moe", rotary_style="norm", rotary_sections="ignored", experts=Routing()
    ),
    Architecture(name="bailingmoe", rotary_style="norm", experts=Routing(renormalized=None)),
    Architecture(
        name="bailingmoe2",
        rotary_style="neox",
        query_key_norm="before",
        experts=CONFIGURED,
        reads=frozenset({"nextn_predict_layers"}),
    ),
    Architecture(
        name="hunyuan-moe", rotary_style="neox", query_key_norm="after", experts=Routing()
    ),
    Architecture(
        name="hy_v3",
        rotary_style="neox",
        query_key_norm="before",
        experts=CONFIGURED,
        reads=frozenset({"nextn_predict_layers"}),
    ),
    Architecture(
        name="minimax-m2",
        rotary_style="neox",
        query_key_norm="before",
        experts=Routing(gating=None),
    ),
    Architecture(
        name="exaone-moe",
        rotary_style="neox",
        query_key_norm="before",
        experts=CONFIGURED,
        window_period=4,
        rotated="sliding",
        reads=frozenset({"nextn_predict_layers"}),
    ),
    Architecture(
        name="mellum",
        rotary_style="neox",
        query_key_norm="before",
        experts=Routing(),
        window_period=4,
        window_scaled=False,
    ),
    Architecture(
        name="afmoe",
        rotary_style="neox",
        norms="both",
        query_key_norm="before",
        attention_gate=True,
        experts=CONFIGURED,
        window_period=4,
        unrotated_period=4,
        embedding_by_width=True,
    ),
    Architecture(
        name="phimoe",
        rotary_style="neox",
        experts=Routing(),
        window_ignored=True,
    ),
    Architecture(
        name="dbrx",
        rotary_style="neox",
        norm_kind="layer",
        feed_forward_norm="attn_output_norm",
        experts=Routing(),
        reads=frozenset({"attention.clamp_kqv"}),
    ),
)
