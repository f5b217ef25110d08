"""What a family's files do not say themselves: the row of one family of models.

Biases, tying, fused matrices and widths are inferred from the tensors, scales from the keys that
the row names.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Routing:
    """How a family uses its experts, in layers that have such."""

    renormalized: bool | None = True
    """Shares are divided by their sum over the selected experts; None: the file says whether."""
    gating: Literal["softmax", "sigmoid"] | None = "softmax"
    """What makes probabilities of the logits; None: the file says it, and its groups."""
    default_gating: Literal["softmax", "sigmoid"] | None = None
    """Where the file does not say it; None: the sigmoid, if there is a bias of the selection."""
    activation: Literal["silu", "gelu", "clamped_silu", "relu_squared"] = "silu"
    blend: float = 1.0
    """Factor of the sum of experts and what stands beside them, where something does."""
    beside: Literal["shared", "dense", "block"] = "shared"
    """What stands beside the experts: a shared one, a feed-forward named as without experts, or a
    whole block of attention and feed-forward, whose input they read through a norm of their own."""
    scales_input: bool = False
    """The only expert of a token answers whole, and reads its input times the sigmoid of its
    logit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A family of models."""

    name: str
    layered: bool = False
    """Heads, their widths and the feed-forward's width may differ between layers."""
    rotary_style: Literal["norm", "neox", "none"]
    """Pairs of a rotation: (2i, 2i + 1), or (i, i + half)."""
    rotary_sections: Literal["refused", "ignored", "neox"] = "refused"
    """What `rope.dimension_sections` means for text, whose position is one and the same in all
    sections: nothing, or pairs (i, i + half)."""
    norms: Literal["before", "after", "both", "parallel"] = "before"
    """Where a block normalizes: the inputs of attention and feed-forward, their outputs, both; or
    the input of the two side by side, once for both or where there is `feed_forward_norm` for
    each. With `use_parallel_residual` in `reads` the file says whether they stand side by side."""
    without_norm: Literal["missing", "parallel"] = "missing"
    """What it means that a block has no `feed_forward_norm`."""
    norm_kind: Literal["rms", "layer", "stated"] = "rms"
    """Which norm the blocks have; stated: by which epsilon the file has."""
    norm_weights: bool = True
    """Norms have weights."""
    activation: Literal["silu", "gelu", "relu_squared", "xielu"] = "silu"
    query_key_norm: Literal["none", "before", "after"] = "none"
    """Whether queries and keys are normalized, before or after their rotation."""
    query_key_norm_optional: bool = False
    """Only some models of the family have that norm."""
    query_key_norm_by_head: bool = False
    """It is a LayerNorm with weights of its own for each head."""
    inner_norms: bool = False
    """What goes into the output matrices of attention and feed-forward is normalized too."""
    feed_forward_norm: str = "ffn_norm"
    """What the norm of the feed-forward's input is called."""
    attention_norm: str = "attn_norm"
    """What the norm of the attention's input is called."""
    attention_output_norm: str = "post_attention_norm"
    feed_forward_output_norm: str = "post_ffw_norm"
    """What the norms of outputs are called."""
    value_norm: bool = False
    """Values are normalized, without weights; where there is no `attn_v` they are the keys."""
    attention_gate: bool = False
    """The heads' answers are gated by `attn_gate`."""
    latent_attention: bool = False
    """Keys and values are products of a latent vector."""
    latent_magnitude: bool = True
    """YaRN's magnitude acts on whole keys of latent attention, not on their rotated part alone."""
    indexed: bool = False
    """An indexer selects which keys are attended to. Up to as many as it selects that is all, and
    longer contexts are not served."""
    query_gate: bool = False
    """The heads' answers are gated by rows of `attn_q` behind those of each head's query."""
    recurrence: Literal["none", "short_convolution", "delta_net", "mamba", "mamba2"] = "none"
    """What stands in the place of attention in some layers."""
    recurrent_layers: Literal["headless", "named", "all", "beside_attention"] = "headless"
    """Which layers these are: those without key-value heads, those that the file names (or all but
    each fourth), all, or all while they attend too."""
    one_part: bool = False
    """A layer is attention, a recurrence or a feed-forward alone, all with the same norm."""
    interleaved_heads: bool = False
    """Heads of a delta net that share a key lie side by side, not a round of all keys apart."""
    attention_optional: bool = False
    """A layer without heads has no attention, and one without key-value heads a matrix there."""
    sinks: Literal["none", "always", "some"] = "none"
    """Which layers' heads have an attention sink each."""
    experts: Routing | None = None
    """None: no file of the family has experts."""
    gated: bool = True
    """The feed-forward has a gate."""
    fused_gate_up: bool = False
    """Gate and up are stacked in `ffn_up`."""
    feed_forward_length: bool = True
    """The file's key of that name says how wide the feed-forward is, else its tensors do."""
    output_norm: str = "output_norm"
    """What the norm before the output is called."""
    tied_only: bool = False
    """The files have no `output.weight`; another one would be left unread."""

    window: int | None = None
    """Default of the sliding window; None where a file without the key has none."""
    window_period: int | None = None
    """Every so many layers the last is global, the others slide, where the file does not say
    otherwise; None where no layer may slide."""
    window_first: bool = False
    """It is the first of so many that is global."""
    window_ignored: bool = False
    """The files name a window that the models are not run with."""
    rotated: Literal["all", "sliding"] = "all"
    """Whether only sliding layers are rotated, in a model that has such."""
    unrotated_period: int = 0
    """Every so many layers the last is not rotated."""
    dense_rotated: bool = False
    """The leading layers without experts are rotated, also where only sliding ones are."""
    loops: bool = False
    """The blocks may be gone through several times, as `num_loops` says."""
    rotary_pattern: bool = False
    """`attention.rope_pattern` says which layers are rotated."""
    rotary_switch: bool = False
    """`rope.scaling.finetuned` false means no rotation at all."""
    window_base: float | None = None
    """Rotary base of sliding layers; None for that of the others."""
    rotary_share: float = 1.0
    """Part of `rope.dimension_count` that is rotated in layers that do not slide."""
    yarn_fast: float = 32.0
    """Default of `rope.scaling.yarn_beta_fast`."""
    window_scaled: bool = True
    """Whether rope scaling applies to sliding layers."""

    embedding_by_width: bool = False
    """Embeddings are multiplied by sqrt(embedding_length)."""
    embedding_scale: float = 1.0
    """Default of `embedding_scale`."""
    residual_depth: float = 0.0
    """Default of `residual_scale` is this / sqrt(layers)."""
    default_logit_scale: float = 1.0
    """Default of `logit_scale`."""
    logit_width: int = 0
    """Default of `logit_scale` is this / embedding_length."""
    alibi: float = 0.0
    """Default of `attention.max_alibi_bias`."""
    alibi_layers: int = 0
    """Models with this many layers have that bias, others are rotated; 0: all have it."""
    chunk: int = 0
    """Sliding layers attend to what stands in the same chunk of so many positions. Up to there
    that is all, and longer contexts are not served."""
    position_embedding: bool = False
    """Each position has an embedding of its own, `position_embd`."""
    embedding_norm: bool = False
    """Embeddings are normalized."""
    attention_scale: float = 0.0
    """Default of `attention_scale_key`; 0 for 1 / sqrt(width of a head)."""
    attention_scale_key: str = "attention.scale"
    attention_by_width: bool = False
    """That default is 1 / width of a head, without a root."""
    scaled_by_width_at: int = 0
    """With this many layers, queries are scaled by 1 / sqrt(embedding_length / heads)."""
    own_pages: int = 0
    """Layers from this one on attend to pages of earlier ones."""
    streams: int = 0
    """Residual streams beside each other, of which layers compute one (AltUp)."""
    sparse_layers: int = 0
    """Layers at the beginning whose feed-forward opens the largest twentieth of its gates."""
    query_temperature: float = 0.0
    """Queries of layers that are not rotated grow with the logarithm of their chunk."""
    unit_query_key_norm: bool = False
    """Queries and keys are normalized without weights, in layers that are rotated."""
    attention_softcap: float = 0.0
    """Default of `attn_logit_softcapping`."""
    logit_softcap: float = 0.0
    """Default of `final_logit_softcapping`."""
    logit_scale: Literal["none", "multiply", "divide"] = "none"
    """What `logit_scale` does."""
    reads: frozenset[str] = frozenset()
    """Keys with a neutral default that this family uses."""
    ignores: frozenset[str] = frozenset()
    """Keys that mean nothing in this family, whatever they say."""
