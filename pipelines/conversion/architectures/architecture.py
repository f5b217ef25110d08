"""The properties of a model family that its GGUF files do not state: one row of the table.

Biases, tying, fused matrices and widths are inferred from the tensors, scales from the metadata
keys that the row names.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Routing:
    """How a family routes tokens to experts, in layers that have them. Immutable."""

    renormalized: bool | None = True
    """Whether the selected experts' weights are divided by their sum; None: the file states it."""
    gating: Literal["softmax", "sigmoid"] | None = "softmax"
    """How logits become probabilities; None: the file states it, and the groups of experts."""
    default_gating: Literal["softmax", "sigmoid"] | None = None
    """`gating` if the file does not state it; None: sigmoid if there is a selection bias."""
    activation: Literal["silu", "gelu", "clamped_silu", "relu_squared", "relu"] = "silu"
    capped: Literal["none", "capped_silu", "silu_of_capped"] = "none"
    """The activation in layers for which the file has a limit, `swiglu_clamp_exp`."""
    reads_stream: bool = False
    """The router reads the residual stream before the block."""
    blend: float = 1.0
    """Factor of the sum of the experts and of what is added to them (`beside`)."""
    beside: Literal["shared", "dense", "block"] = "shared"
    """What is added to the experts: a shared expert, a dense feed-forward (`ffn_up` and so on), or
    a whole block of attention and feed-forward, whose input the experts read through their own
    norm."""
    scales_input: bool = False
    """The only expert of a token has weight 1; its input is multiplied by the sigmoid of its
    logit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The row of one model family. Immutable."""

    name: str
    is_encoder: bool = False
    """Whether tokens attend to the whole text, whose rows are pooled."""
    layered: bool = False
    """Heads, their widths and the feed-forward's width may differ between layers."""
    rotary_style: Literal["norm", "neox", "none"]
    """Which dimensions rotary embedding pairs: (2i, 2i + 1) in norm, (i, i + half) in neox."""
    rotary_sections: Literal["refused", "ignored", "neox"] = "refused"
    """What `rope.dimension_sections` means for text, whose position is the same in all sections:
    nothing, or pairs (i, i + half)."""
    norms: Literal["before", "after", "both", "parallel", "stream"] = "before"
    """What a block normalizes: the inputs of attention and feed-forward, their outputs, or both.
    parallel: attention and feed-forward read the same input, through one norm, or one each if
    there is a `feed_forward_norm`. With `use_parallel_residual` in `reads` the file states whether
    a block is parallel. stream: the residual stream itself, behind attention (`feed_forward_norm`)
    and behind the block (`stream_norm`)."""
    without_norm: Literal["missing", "parallel"] = "missing"
    """How a block without `feed_forward_norm` is read: as damaged, or as parallel."""
    norm_kind: Literal["rms", "layer", "stated"] = "rms"
    """The norm of the blocks; stated: chosen by which epsilon key the file has."""
    norm_weights: bool = True
    """Whether norms have weights."""
    activation: Literal["silu", "gelu", "relu_squared", "xielu", "clamped_silu"] = "silu"
    query_key_norm: Literal["none", "before", "after"] = "none"
    """Whether queries and keys are normalized, before or after their rotation."""
    query_key_norm_optional: bool = False
    """Whether only some models of the family have that norm."""
    query_key_norm_by_head: bool = False
    """Whether it is a LayerNorm with separate weights for each head."""
    inner_norms: bool = False
    """Whether the inputs of the output matrices of attention and feed-forward are normalized."""
    first_norm_optional: bool = False
    """Whether the first block's attention may read the embeddings without a norm."""
    stream_norm: str = ""
    """Tensor name of the norm of the residual stream behind a block; empty: none."""
    feed_forward_norm: str = "ffn_norm"
    """Tensor name of the norm of the feed-forward's input."""
    attention_norm: str = "attn_norm"
    """Tensor name of the norm of the attention's input."""
    attention_output_norm: str = "post_attention_norm"
    feed_forward_output_norm: str = "post_ffw_norm"
    """Tensor names of the norms of the outputs."""
    value_norm: bool = False
    """Whether values are normalized, without weights; without `attn_v` the keys are the values."""
    gate_function: Literal["sigmoid", "softplus"] = "sigmoid"
    """What opens the gates of the heads' answers."""
    attention_gate: bool = False
    """Whether the heads' outputs are gated by `attn_gate`."""
    latent_attention: bool = False
    """Whether attention is multi-head latent attention (MLA)."""
    latent_magnitude: bool = True
    """Whether YaRN scales whole keys of latent attention, not only their rotated part."""
    indexed: bool = False
    """Whether an indexer selects the keys that are attended to. The context is limited to as many
    tokens as it selects, so that it would select all."""
    query_gate: bool = False
    """Whether heads' outputs are gated by rows of `attn_q`, after the rows of each head's query."""
    recurrence: Literal[
        "none", "short_convolution", "delta_net", "delta_attention", "mamba", "mamba2"
    ] = "none"
    """The recurrent layer that replaces attention in some layers."""
    recurrent_layers: Literal["headless", "named", "all", "beside_attention"] = "headless"
    """Which layers are recurrent. headless: those without key-value heads; named: those that the
    file states, by default all but every fourth; all: every layer, without attention;
    beside_attention: every layer, added to attention."""
    one_part: bool = False
    """Whether a layer is only one of attention, recurrence and feed-forward, with one norm."""
    interleaved_heads: bool = False
    """Whether a delta net's heads that share a key are adjacent, not interleaved over all keys."""
    attention_optional: bool = False
    """Whether layers without heads have no attention, and ones without KV heads only a matrix."""
    sinks: Literal["none", "always", "some"] = "none"
    """Which layers have an attention sink for each head."""
    experts: Routing | None = None
    """None: no file of the family has experts."""
    gated: bool = True
    """Whether the feed-forward has a gate."""
    fused_gate_up: bool = False
    """Whether gate and up are stacked in `ffn_up`."""
    feed_forward_length: bool = True
    """Whether the width of the feed-forward is in the key of that name, else in its tensors."""
    output_norm: str = "output_norm"
    """Tensor name of the norm before the output."""
    tied_only: bool = False
    """Whether the output matrix is always the embedding; an `output.weight` is not read."""

    window: int | None = None
    """Default of the sliding window; None where a file without the key has none."""
    window_period: int | None = None
    """Default period of layers: the last of each period has global attention, the others a sliding
    window; None if the family has no sliding layers."""
    window_always: int = 0
    """The window in place of any that a file has."""
    window_first: bool = False
    """Whether the first layer of each period is the global one."""
    window_ignored: bool = False
    """Whether the window that the files state is not applied."""
    rotated: Literal["all", "sliding"] = "all"
    """Which layers have rotary embedding, in a model with sliding layers."""
    unrotated_period: int = 0
    """Period of layers of which the last has no rotary embedding; 0: all have it."""
    dense_rotated: bool = False
    """Whether leading dense layers are rotated even if only sliding ones are."""
    loops: bool = False
    """Whether the blocks may be applied several times (`num_loops`)."""
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
    """Whether embeddings are multiplied by sqrt(embedding_length)."""
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
    """Layer count of the models that have that bias, the others are rotated; 0: all have it."""
    chunk: int = 0
    """Positions of a chunk within which sliding layers attend. The context is limited to one chunk;
    0: no chunks."""
    position_embedding: bool = False
    """Whether positions have learned embeddings, `position_embd`."""
    embedding_norm: bool = False
    """Whether embeddings are normalized."""
    attention_scale: float = 0.0
    """Default of `attention_scale_key`; 0 for 1 / sqrt(width of a head)."""
    attention_scale_key: str = "attention.scale"
    attention_by_width: bool = False
    """Whether that default is 1 / width of a head, without a square root."""
    scaled_by_width_at: int = 0
    """Layer count of the model that scales queries by 1 / sqrt(embedding_length / heads)."""
    own_pages: int = 0
    """First layer that has no keys and values and reads those of an earlier layer; 0: none."""
    streams: int = 0
    """Number of parallel residual streams, of which a layer computes one (AltUp)."""
    sparse_layers: int = 0
    """Number of first layers whose feed-forward keeps only the largest 5 % of its gates."""
    query_temperature: float = 0.0
    """Scale in unrotated layers by which queries grow with the logarithm of their chunk."""
    unit_query_key_norm: bool = False
    """Whether rotated layers normalize queries and keys without weights."""
    attention_softcap: float = 0.0
    """Default of `attn_logit_softcapping`."""
    logit_softcap: float = 0.0
    """Default of `final_logit_softcapping`."""
    logit_scale: Literal["none", "multiply", "divide"] = "none"
    """How `logit_scale` is applied."""
    reads: frozenset[str] = frozenset()
    """Metadata keys with a neutral default that this family uses."""
    ignores: frozenset[str] = frozenset()
    """Metadata keys that this family ignores, whatever their value."""
