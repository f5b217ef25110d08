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
)
