"""The families of models: one declarative row each, with what their files do not say themselves.

Biases, tying, fused matrices and widths are inferred from the tensors, scales from the keys that
the row names. Facts from llama.cpp's model sources and the models' own configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Routing:
    """How a family uses its experts, in layers that have such."""

    renormalized: bool = True
    """Shares are divided by their sum over the chosen experts."""
    configured: bool = False
    """The file says how: gating function, renormalization, groups."""
    always_renormalized: bool = False
    """The file says the rest."""
    activation: Literal["silu", "clamped_silu"] = "silu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A family of models."""

    name: str
    rotary_style: Literal["norm", "neox"]
    """Pairs of a rotation: (2i, 2i + 1), or (i, i + half)."""
    norms: Literal["before", "after", "both", "parallel"] = "before"
    """Where a block normalizes: the inputs of attention and feed-forward, their outputs, both; or
    one norm whose result feeds the two side by side."""
    norm_kind: Literal["rms", "layer"] = "rms"
    activation: Literal["silu", "gelu"] = "silu"
    query_key_norm: Literal["none", "before", "after"] = "none"
    """Whether queries and keys are normalized, before or after their rotation."""
    query_key_norm_optional: bool = False
    """Only some models of the family have that norm."""
    feed_forward_norm: str = "ffn_norm"
    """What the norm of the feed-forward's input is called."""
    latent_attention: bool = False
    """Keys and values are products of a latent vector; YaRN's magnitude acts on whole keys."""
    recurrence: Literal["none", "short_convolution"] = "none"
    """What stands in the place of attention in layers that have no key-value heads."""
    sinks: bool = False
    """Each head has an attention sink."""
    experts: Routing | None = None
    """None: no file of the family has experts."""
    fused_gate_up: bool = False
    """Gate and up are stacked in `ffn_up`."""
    output_norm: str = "output_norm"
    """What the norm before the output is called."""
    tied_only: bool = False
    """The files have no `output.weight`; another one would be left unread."""

    window: int | None = None
    """Default of the sliding window; None where a file without the key has none."""
    window_period: int | None = None
    """Every so many layers the last is global, the others slide, where the file does not say
    otherwise; None where no layer may slide."""
    window_ignored: bool = False
    """The files name a window that the models are not run with."""
    rotated: Literal["all", "sliding"] = "all"
    """Whether only sliding layers are rotated, in a model that has such."""
    unrotated_period: int = 0
    """Every so many layers the last is not rotated."""
    rotary_switch: bool = False
    """`rope.scaling.finetuned` false means no rotation at all."""
    window_base: float | None = None
    """Rotary base of sliding layers; None for that of the others."""
    window_scaled: bool = True
    """Whether rope scaling applies to sliding layers."""

    embedding_by_width: bool = False
    """Embeddings are multiplied by sqrt(embedding_length)."""
    scaled_by_width_at: int = 0
    """With this many layers, queries are scaled by 1 / sqrt(embedding_length / heads)."""
    attention_softcap: float = 0.0
    """Default of `attn_logit_softcapping`."""
    logit_softcap: float = 0.0
    """Default of `final_logit_softcapping`."""
    logit_scale: Literal["none", "multiply", "divide"] = "none"
    """What `logit_scale` does."""
    reads: frozenset[str] = frozenset()
    """Keys with a neutral default that this family uses."""


SCALES = frozenset({"embedding_scale", "residual_scale", "attention.scale"})
SOFTCAPS = frozenset({"attn_logit_softcapping", "final_logit_softcapping"})

_ROWS = (
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
    Architecture(name="qwen2moe", rotary_style="neox", experts=Routing(renormalized=False)),
    Architecture(name="qwen3", rotary_style="neox", query_key_norm="before"),
    Architecture(name="qwen3moe", rotary_style="neox", query_key_norm="before", experts=Routing()),
    Architecture(
        name="gpt-oss",
        rotary_style="neox",
        feed_forward_norm="post_attention_norm",
        sinks=True,
        experts=Routing(activation="clamped_silu"),
        window_period=2,
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
        name="granitemoe",
        rotary_style="norm",
        experts=Routing(),
        rotary_switch=True,
        logit_scale="divide",
        reads=SCALES,
    ),
    Architecture(name="internlm2", rotary_style="norm"),
    Architecture(name="ernie4_5", rotary_style="norm"),
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
    Architecture(name="glm4", rotary_style="norm", norms="both", fused_gate_up=True),
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
    Architecture(
        name="deepseek2",
        rotary_style="norm",
        latent_attention=True,
        experts=Routing(configured=True),
        reads=frozenset({"attention.temperature_scale", "nextn_predict_layers"}),
    ),
    Architecture(name="deepseek", rotary_style="norm", experts=Routing(renormalized=False)),
    Architecture(
        name="dots1",
        rotary_style="neox",
        query_key_norm="before",
        experts=Routing(configured=True),
    ),
    Architecture(
        name="glm4moe",
        rotary_style="neox",
        query_key_norm="before",
        query_key_norm_optional=True,
        feed_forward_norm="post_attention_norm",
        experts=Routing(configured=True),
        reads=frozenset({"nextn_predict_layers"}),
    ),
    Architecture(
        name="olmoe",
        rotary_style="neox",
        query_key_norm="before",
        experts=Routing(renormalized=False),
    ),
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
        experts=Routing(configured=True, always_renormalized=True),
    ),
    Architecture(name="hunyuan-dense", rotary_style="neox", query_key_norm="after"),
)

ARCHITECTURES: Mapping[str, Architecture] = {row.name: row for row in _ROWS}
"""The supported families by `general.architecture`. OLMo 3 files say olmo2 as well."""
