"""Families in which some layers have a recurrence in the place of attention."""

from pipelines.conversion.architectures.architecture import Architecture, Routing

RECURRENT = (
    Architecture(
        name="lfm2",
        rotary_style="neox",
        query_key_norm="before",
        recurrence="short_convolution",
        output_norm="token_embd_norm",
    ),
    Architecture(
        name="lfm2moe",
        rotary_style="neox",
        query_key_norm="before",
        recurrence="short_convolution",
        output_norm="token_embd_norm",
        experts=Routing(gating=None),
    ),
    Architecture(
        name="qwen3next",
        rotary_style="neox",
        query_key_norm="before",
        feed_forward_norm="post_attention_norm",
        experts=Routing(),
        query_gate=True,
        recurrence="delta_net",
        interleaved_heads=True,
        reads=frozenset({"attention.scale", "nextn_predict_layers"}),
    ),
    Architecture(
        name="qwen35",
        rotary_style="neox",
        rotary_sections="ignored",
        query_key_norm="before",
        feed_forward_norm="post_attention_norm",
        query_gate=True,
        recurrence="delta_net",
        reads=frozenset({"attention.scale", "nextn_predict_layers"}),
    ),
    Architecture(
        name="qwen35moe",
        rotary_style="neox",
        rotary_sections="ignored",
        query_key_norm="before",
        feed_forward_norm="post_attention_norm",
        experts=Routing(),
        query_gate=True,
        recurrence="delta_net",
        reads=frozenset({"attention.scale", "nextn_predict_layers"}),
    ),
)
