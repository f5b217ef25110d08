"""A model described: all its numbers and tensors, frozen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.gguf import TensorInfo


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix and its optional bias: y = x @ weight.T + bias."""

    weight: TensorInfo
    bias: TensorInfo | None


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
    """Queries at position p are multiplied by 1 + scale * ln(1 + floor(p / length))."""

    scale: float
    length: int


@dataclass(frozen=True, slots=True)
class FeedForward:
    """down(activation(gate(x)) * up(x))."""

    gate_up: tuple[Linear, ...]
    """Gate and up, or one matrix with the rows of both."""
    down: Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The sum of what the experts answer that a router chooses, times their shares."""

    router: Linear
    gate: Linear
    up: Linear
    down: Linear
    """Matrices [experts, rows, columns] and biases [experts, rows]."""
    used: int
    renormalized: bool
    """Shares are the softmax over the chosen experts, not over all."""
    scale: float
    activation: Literal["silu", "clamped_silu"]
    shared: FeedForward | None
    """Added for every token."""
    shared_gate: TensorInfo | None
    """[C]: the shared answer is multiplied by the sigmoid of its product with the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One transformer block: its weights and what differs between layers."""

    attention_norm: TensorInfo | None
    query_key_value: tuple[Linear, ...]
    """Three matrices, or one with the rows of all."""
    query_norm: TensorInfo | None
    key_norm: TensorInfo | None
    sinks: TensorInfo | None
    attention_output: Linear
    attention_output_norm: TensorInfo | None
    feed_forward_norm: TensorInfo | None
    feed_forward: FeedForward | Experts
    feed_forward_output_norm: TensorInfo | None
    rotary: Rotary
    window: int
    """Positions a token attends to, itself included; 0 for all."""

    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor of the block."""
        return tuple(info for name in self.__slots__ for info in _tensors(getattr(self, name)))


def _tensors(part: object) -> Iterator[TensorInfo]:
    if isinstance(part, TensorInfo):
        yield part
    elif isinstance(part, tuple):
        for each in part:
            yield from _tensors(each)
    elif isinstance(part, Linear | FeedForward | Experts):
        for name in part.__slots__:
            yield from _tensors(getattr(part, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model this build can run. Immutable."""

    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    embedding_length: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_kind: Literal["rms", "layer"]
    epsilon: float
    is_parallel: bool
    """Attention and feed-forward read the same norm, side by side."""
    norm_follows_rotary: bool
    """Queries and keys are normalized after their rotation."""
    attention_scale: float
    attention_softcap: float
    query_temperature: QueryTemperature | None
    activation: Literal["silu", "gelu"]
    embedding_scale: float
    residual_scale: float
    """Factor of what attention and feed-forward add to the residual stream."""
    logit_scale: float
    logit_softcap: float
    """Logits become cap * tanh(logits / cap); 0 for none."""
    embedding: TensorInfo
    layers: tuple[Layer, ...]
    output_norm: TensorInfo
    output: Linear
    """Its weight is the embedding itself where the file has no `output.weight`."""
    folded: frozenset[str]
    """Tensors used up at conversion, such as rope_freqs.weight; the graph does not read them."""

    @property
    def has_experts(self) -> bool:
        """Whether tokens choose between experts in some layer."""
        return any(isinstance(layer.feed_forward, Experts) for layer in self.layers)
