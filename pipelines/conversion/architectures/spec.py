"""The description of a model: its dimensions, options and tensors. Immutable."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from runtime.gguf import TensorInfo


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix, its optional bias and factor: y = x @ weight.T * scale + bias."""

    weight: TensorInfo
    bias: TensorInfo | None
    scale: TensorInfo | None = None
    """[1]"""


@dataclass(frozen=True, slots=True)
class Norm:
    """The weights of a norm, or none if it only normalizes."""

    weight: TensorInfo | None
    bias: TensorInfo | None = None


ALIBI_COLUMNS = 16
"""Columns added to queries and keys for ALiBi: two used, and zeros to a multiple of 16."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of one layer's attention."""

    count: int
    kv: int
    """Key-value heads."""
    width: int
    """Width of a query and a key."""
    value: int
    """Width of a value."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding of the first `2 * len(inverse_frequencies)` dims of a head."""

    style: Literal["norm", "neox"]
    inverse_frequencies: tuple[float, ...]
    """Radians per position of each pair; scaling is already applied. Empty: no rotation."""
    magnitude: float = 1.0
    """Factor of the rotated queries and keys."""


@dataclass(frozen=True, slots=True)
class QueryTemperature:
    """Queries at position p are multiplied by 1 + scale * ln(1 + floor((p + offset) / length))."""

    scale: float
    length: int
    offset: int = 0
    rotated_too: bool = True
    """Whether it also applies in layers with rotary embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Projections of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Keys and values of all heads are products of one narrow vector, the latent; one rotated part of
    the key is shared by the heads. A head's key is `rotated` and `plain` values wide.
    """

    query: tuple[Linear, ...]
    """Projects to the queries of all heads: one matrix, or two of low rank."""
    query_norm: TensorInfo | None
    """Between the two."""
    latent: Linear
    """Projects to the latent followed by the shared part of the key."""
    latent_norm: TensorInfo
    key_value: tuple[Linear, ...]
    """From the latent: one matrix with the plain keys and the values of each head in turn, or two
    [heads, latent, plain] and [heads, value, latent]. Of the two the first acts on the queries
    instead, so that the cache holds the latent itself."""
    plain: int
    rotated: int
    value: int
    """Width of a head's value."""

    @property
    def caches_latent(self) -> bool:
        """Whether the pages hold latents for all heads, not keys and values of each."""
        return len(self.key_value) == 2


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """Gated convolution over the last few tokens (LFM2): c * convolution(b * x).

    b, c and x are the thirds of one projection, in that order.
    """

    projection: Linear
    taps: TensorInfo
    """[width, taps]"""
    output: Linear

    @property
    def state_values(self) -> int:
        """Values of the state: the inputs of the convolution before the next token."""
        width, taps = self.taps.shape
        return width * (taps - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNet:
    """The gated delta rule (Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024)."""

    projection: Linear
    """Projects to queries, keys and values of all heads, before convolution and activation."""
    gate: Linear
    """Projects to the gate of the normed outputs."""
    alpha_beta: tuple[Linear, ...]
    """Project to alpha and beta of each head, or one fused: per key head betas, then alphas."""
    taps: TensorInfo
    """[columns of the projection, taps]"""
    decay: TensorInfo
    step_bias: TensorInfo
    norm: TensorInfo
    """[width of a head]: of the outputs."""
    heads: int
    key_heads: int
    head_dim: int
    is_interleaved: bool
    """Whether heads that share a key are adjacent."""
    output: Linear

    @property
    def state_values(self) -> int:
        """Values of the state: the inputs of the convolution and a matrix for each head."""
        width, taps = self.taps.shape
        return width * (taps - 1) + self.heads * self.head_dim**2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAttention:
    """A delta net whose state has a gate for each row (Kimi Team, "Kimi Linear", 2025)."""

    projections: tuple[Linear, ...]
    """To queries, keys and values, before convolution and activation."""
    taps: tuple[TensorInfo, ...]
    """Of the three, with [columns, taps] values each."""
    alpha: tuple[Linear, Linear]
    """Project to alpha of each row, the first to fewer values."""
    beta: Linear
    gate: tuple[Linear, Linear]
    """Project to the gate of the normed outputs, the first to fewer values."""
    decay: TensorInfo
    """A value for each head."""
    step_bias: TensorInfo
    norm: TensorInfo
    """[width of a head]: of the outputs."""
    heads: int
    head_dim: int
    output: Linear

    @property
    def state_values(self) -> int:
        """Values of the state: the inputs of the convolutions and a matrix for each head."""
        kept = sum(each.shape[-1] - 1 for each in self.taps)
        return kept * self.heads * self.head_dim + self.heads * self.head_dim**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What Mamba makes of its convolved channels: their steps, and the states' input and output."""

    projection: Linear
    """To what the steps are made of, the input and the output, in that order."""
    steps: Linear
    norms: tuple[TensorInfo | None, ...]
    """Of the three; None: without weights. Empty: none is normalized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """Mamba-2 (arXiv 2405.21060) or Mamba (2312.00752): channels with a state each.

    The projection gives the gate, what is convolved (the channels, and each group's input and
    output of their states), and the steps of the heads. In Mamba each channel is a head; the
    projection gives channels and gate only, and a selection the rest.
    """

    projection: Linear
    taps: TensorInfo
    """[convolved columns, taps]"""
    taps_bias: TensorInfo | None
    decay: TensorInfo
    """[heads, 1], or in Mamba [heads, state_size]"""
    skip: TensorInfo
    step_bias: TensorInfo | None
    """Beside that of a selection."""
    selection: Selection | None
    norm: TensorInfo | None
    """[groups, channels of a group]: of the gated outputs."""
    heads: int
    groups: int
    state_size: int
    width: int
    """Channels of all heads."""
    output: Linear

    @property
    def state_values(self) -> int:
        """Values of the state: the inputs of the convolution, and each channel's own."""
        convolved, taps = self.taps.shape
        return convolved * (taps - 1) + self.width * self.state_size


Recurrence: TypeAlias = ShortConvolution | DeltaNet | DeltaAttention | StateSpace


@dataclass(frozen=True, slots=True)
class Xielu:
    """p x^2 + b x where x > 0, else n (exp(min(x, e)) - 1 - x) + b x (arXiv 2411.13010)."""

    positive: float
    negative: float
    linear: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class FeedForward:
    """down(activation(gate(x)) * up(x)), or down(activation(up(x)))."""

    gate_up: tuple[Linear, ...]
    """Gate and up, or one matrix with the rows of both; only up where nothing is gated."""
    down: Linear
    is_gated: bool = True
    norm: TensorInfo | None = None
    """Of the input of `down`."""
    xielu: Xielu | None = None
    """The activation of this layer, in place of the model's."""
    activation: Literal["clamped_silu", "capped_silu", "silu_of_capped"] | None = None
    """Another in place of the model's."""
    limit: float = 0.0
    """Of the capped activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSelection:
    """How a router's logits select experts and give their weights. Immutable."""

    experts: int
    used: int
    gating: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become probabilities."""
    renormalized: bool
    """Whether the selected experts' weights are divided by their sum."""
    scale: float
    selection_bias: TensorInfo | None = None
    """[experts]: added to the probabilities for the selection, not for the weights."""
    groups: int = 1
    groups_used: int = 1
    """Number of groups that experts are selected from: the best of `groups` equal ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: the weighted sum of the outputs of the selected experts."""

    router: Linear
    gate: Linear | None
    """None: without a gate, or `up` has each expert's gate before its own rows."""
    up: Linear
    down: Linear
    """Matrices [experts, rows, columns] and biases [experts, rows]."""
    selection: ExpertSelection
    activation: Literal[
        "silu", "gelu", "clamped_silu", "relu_squared", "relu", "capped_silu", "silu_of_capped"
    ]
    limit: float
    """Of the capped activations."""
    reads_stream: bool
    """Whether the router reads the residual stream before the block instead of the input."""
    latent: tuple[Linear, Linear] | None
    """Projections to the narrower input of the experts, and back from their output."""
    shared: FeedForward | None
    """Added for every token."""
    blend: float
    """Factor of that sum."""
    scales_input: bool
    """Whether the only expert of a token reads its input times the sigmoid of its logit."""
    shared_gate: TensorInfo | None
    """[C]: the shared expert's output is multiplied by the sigmoid of a product with the input."""


@dataclass(frozen=True, slots=True)
class LayerEmbedding:
    """Each token's embedding for every layer, and its input's share of it (Gemma 3n, Gemma 4)."""

    tokens: TensorInfo
    """[vocabulary, layers * width]"""
    projection: Linear
    norm: TensorInfo
    """[width]"""


@dataclass(frozen=True, slots=True)
class Streams:
    """Matrices [streams - 1, C, C] to and from the streams after the first (arXiv 2301.13310)."""

    count: int
    projection: Linear
    return_projection: Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMixing:
    """How a layer that computes one stream predicts and corrects the others."""

    router: Linear
    router_norm: Norm
    prediction: Linear
    """[streams * streams, streams]"""
    correction: Linear
    """[streams, streams]"""
    output_scale: TensorInfo
    """[C]"""
    left: Linear
    right: Linear
    bypass_norm: Norm
    """norm(right(left(x))) + x is added to attention (LAuReL, arXiv 2411.07501)."""
    cutoff: float
    """Standard deviations above the mean below which gates are closed; 0 for none."""


@dataclass(frozen=True, slots=True)
class LayerInput:
    """norm(projection(activation(gate(x)) * the layer's part of the embedding)), added to x."""

    gate: Linear
    projection: Linear
    norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the rows of a text become one vector."""

    kind: Literal["mean", "cls", "last"]
    """The mean of all rows, the first, or the last."""
    is_causal: bool
    """Tokens attend to those before them, else to the whole text."""
    projections: tuple[Linear, ...] = ()
    """Multiplied in turn with the pooled row."""
    classifier_input: Linear | None = None
    """Before the classifier; its product goes through tanh."""
    classifier: Linear | None = None
    """To the score of each class."""
    is_softmax: bool = False
    """Scores are a softmax over the classes."""

    @property
    def width(self) -> int | None:
        """Values of the result; None where it is as wide as the model."""
        last = self.projections[-1] if self.projections else self.classifier
        return None if last is None else last.weight.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One transformer block: its weights and what differs between layers."""

    heads: Heads
    attention_norm: Norm | None
    query_key_value: tuple[Linear, ...] | LatentAttention
    """Three matrices, or one with the rows of all; queries and keys where values are the keys
    before their norm, queries where another layer has the rest; none without attention."""
    reads_pages_of: int | None = None
    """The layer whose keys and values are attended to; None: its own."""
    query_norm: TensorInfo | Norm | None
    key_norm: TensorInfo | Norm | None
    """A Norm is a LayerNorm of each head, with [heads, width] weights."""
    sinks: TensorInfo | None
    recurrence: Recurrence | None = None
    """Replaces attention, or is added to it if the layer has both."""
    gate: Linear | None = None
    """Projects to the gate of the heads' outputs, before a sigmoid: a factor for each value, or one
    for each head."""
    has_query_gate: bool = False
    """Whether the query matrix contains such a gate, after each head's query rows."""
    attention_inner_norm: TensorInfo | None = None
    """Of the input of `attention_output`."""
    attention_output: Linear | None
    """Applied to the output of attention, or to the input if there is none; None: absent."""
    attention_output_norm: Norm | None
    feed_forward_norm: Norm | None
    feed_forward: FeedForward | Experts | None
    """None: the block has none."""
    feed_forward_output_norm: Norm | None
    beside_norm: Norm | None = None
    beside: Experts | None = None
    """Experts that read the block's own input through that norm."""
    stream_norm: Norm | None = None
    """Of the residual stream after the block."""
    layer_input: LayerInput | None = None
    mixing: StreamMixing | None = None
    output_scale: TensorInfo | None = None
    """[1]: factor of the residual stream after the block."""
    rotary: Rotary
    window: int
    """Positions a token attends to, itself included; 0 for all."""

    @property
    def has_attention(self) -> bool:
        """Whether the layer has attention."""
        return self.query_key_value != ()

    @property
    def writes_pages(self) -> bool:
        """Whether keys and values of the layer are in the pages."""
        return self.has_attention and self.reads_pages_of is None

    def tensors(self) -> tuple[TensorInfo, ...]:
        """Return every tensor of the block."""
        return tuple(info for name in self.__slots__ for info in _tensors(getattr(self, name)))


PARTS = (
    *(Linear, Norm, FeedForward, Experts, ExpertSelection, LatentAttention),
    *(ShortConvolution, DeltaNet, DeltaAttention, StateSpace, Selection),
    Pooling,
    *(LayerEmbedding, LayerInput, Streams, StreamMixing),
)


def _tensors(part: object) -> Iterator[TensorInfo]:
    if isinstance(part, TensorInfo):
        yield part
    elif isinstance(part, tuple):
        for each in part:
            yield from _tensors(each)
    elif isinstance(part, PARTS):
        for name in part.__slots__:
            yield from _tensors(getattr(part, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that this version can run. Immutable."""

    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    embedding_length: int
    heads: int
    kv_heads: int
    """Of a page: the most that a layer has."""
    head_dim: int
    """Of a page: the widest that a layer has."""
    norm_kind: Literal["rms", "layer"]
    epsilon: float
    is_parallel: bool
    """Whether attention and feed-forward read the same input, through one norm or one each."""
    norm_follows_rotary: bool
    """Whether queries and keys are normalized after their rotation."""
    normalizes_values: bool
    """Whether values are normalized, without weights."""
    gate_function: Literal["sigmoid", "softplus"]
    """What opens the gates of attention's outputs."""
    value_scale: float
    """Factor of the heads' outputs."""
    attention_scale: float
    attention_softcap: float
    alibi: float
    """Largest exponent of ALiBi's slopes (arXiv 2108.12409); 0 for none."""
    unit_query_key_norm: bool
    """Whether queries and keys of rotated layers are normalized without weights."""
    query_temperature: QueryTemperature | None
    clamp: float
    """Queries, keys and values stay within plus and minus this; 0 for no bounds."""
    activation: Literal["silu", "gelu", "relu_squared", "xielu", "clamped_silu"]
    embedding_scale: float
    residual_scale: float
    """Factor of what attention and feed-forward add to the residual stream."""
    logit_scale: float
    logit_softcap: float
    """Logits become cap * tanh(logits / cap); 0 for none."""
    embedding: TensorInfo
    position_embedding: TensorInfo | None
    """[positions, C]: added to the embeddings."""
    token_type: TensorInfo | None
    """[types, C] or [C]: its first row is added to the embeddings."""
    embedding_norm: Norm | None
    layer_embedding: LayerEmbedding | None
    streams: Streams | None
    layers: tuple[Layer, ...]
    output_norm: Norm | None
    pooling: Pooling | None
    """How rows are pooled in a model that embeds or scores texts; None in one that generates."""
    normalizes_stream: bool
    """Whether the residual stream itself is normalized, behind attention and behind the block."""
    output: Linear | None
    """None in a model that pools. Its weight is the embedding if the file has no
    `output.weight`."""
    folded: frozenset[str]
    """Tensors used up at conversion, such as rope_freqs.weight; the graph does not read them."""

    @property
    def attention_layers(self) -> int:
        """Layers whose keys and values are in the pages."""
        return sum(layer.writes_pages for layer in self.layers)

    @property
    def state_values(self) -> int:
        """Values of a sequence's state over all layers."""
        recurrences = (layer.recurrence for layer in self.layers)
        return sum(each.state_values for each in recurrences if each is not None)

    @property
    def has_experts(self) -> bool:
        """Whether some layer is a mixture of experts."""
        return any(isinstance(layer.feed_forward, Experts) for layer in self.layers)
