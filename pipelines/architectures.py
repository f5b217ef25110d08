"""What a GGUF holds, as a frozen ModelSpec: one declarative row a family, the rest inferred.

Biases, tying and widths are inferred from which tensors exist and what their shapes are. Whatever
this build does not compute exactly is refused here by name, before anything is written.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np

from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile, StringArray, TensorInfo

MATRIX_FORMATS = frozenset({"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"})
"""Block formats that QuantMatMul and RowLookup read."""

NEUTRAL_VALUES: Mapping[str, float] = {
    "attention.causal": 1,
    "attention.clamp_kqv": 0,
    "attention.max_alibi_bias": 0,
    "attention.scale": 0,
    "attention.sliding_window": 0,
    "attn_logit_softcapping": 0,
    "embedding_scale": 1,
    "expert_count": 0,
    "expert_used_count": 0,
    "final_logit_softcapping": 0,
    "logit_scale": 1,
    "residual_scale": 1,
    "use_parallel_residual": 0,
}
"""Metadata keys that change the arithmetic when they differ from the value given here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A family of models: what its files do not say themselves."""

    name: str
    rotary_style: Literal["norm", "neox"]
    activation: Literal["silu", "gelu"] = "silu"


ARCHITECTURES: Mapping[str, Architecture] = {
    row.name: row for row in (Architecture(name="llama", rotary_style="norm"),)
}


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
    """Radians per position of each pair; scaling is already applied."""
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one transformer block."""

    attention_norm: TensorInfo
    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    feed_forward_norm: TensorInfo
    gate: Linear
    up: Linear
    down: Linear

    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor of the block."""
        found: list[TensorInfo | None] = []
        for part in (getattr(self, name) for name in self.__slots__):
            found += [part.weight, part.bias] if isinstance(part, Linear) else [part]
        return tuple(info for info in found if info is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model this build can run, with all its numbers and tensors. Immutable."""

    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    embedding_length: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    attention_scale: float
    activation: Literal["silu", "gelu"]
    rotary: Rotary
    embedding: TensorInfo
    layers: tuple[Layer, ...]
    output_norm: TensorInfo
    output: Linear
    """Its weight is the embedding itself where the file has no `output.weight`."""
    folded: frozenset[str]
    """Tensors used up at conversion, such as rope_freqs.weight; the graph does not read them."""


def describe(file: GGUFFile) -> ModelSpec:
    """Describe the model of a GGUF file.

    Raises UnsupportedModel, naming what is not supported: an architecture, a block format, a
    tensor the graph would leave unread, a key that changes the arithmetic. Raises GGUFError for
    a missing key or tensor and for a wrong shape.
    """
    architecture = ARCHITECTURES.get(file.architecture)
    if architecture is None:
        raise UnsupportedModel(
            f"{file.path}: architecture {file.architecture!r} is not supported; "
            f"supported are: {', '.join(sorted(ARCHITECTURES))}"
        )
    if (parts := file.metadata.get("split.count", 1)) != 1:
        raise UnsupportedModel(
            f"{file.path} is one of {parts} parts (split.count); merge them with `llama-gguf-split`"
        )
    keys = _Keys(file)
    keys.refuse_changed_arithmetic()
    tensors = _Tensors(file)
    heads = keys.count("attention.head_count")
    kv_heads = keys.count("attention.head_count_kv", heads)
    width = keys.count("embedding_length")
    if heads % kv_heads:
        keys.fail("attention.head_count", f"is {heads}, no multiple of the {kv_heads} KV heads")
    head_dim = keys.count("attention.key_length", width // heads)
    if keys.count("attention.value_length", head_dim) != head_dim:
        keys.refuse("attention.value_length", f"differs from the key length {head_dim}")
    embedding = tensors.matrix("token_embd.weight", None, width)
    feed_forward = keys.count("feed_forward_length")
    query_width, kv_width = heads * head_dim, kv_heads * head_dim
    layers = tuple(
        Layer(
            attention_norm=tensors.vector(f"{block}.attn_norm.weight", width),
            query=tensors.linear(f"{block}.attn_q", query_width, width),
            key=tensors.linear(f"{block}.attn_k", kv_width, width),
            value=tensors.linear(f"{block}.attn_v", kv_width, width),
            attention_output=tensors.linear(f"{block}.attn_output", width, query_width),
            feed_forward_norm=tensors.vector(f"{block}.ffn_norm.weight", width),
            gate=tensors.linear(f"{block}.ffn_gate", feed_forward, width),
            up=tensors.linear(f"{block}.ffn_up", feed_forward, width),
            down=tensors.linear(f"{block}.ffn_down", width, feed_forward),
        )
        for block in (f"blk.{index}" for index in range(keys.count("block_count")))
    )
    is_tied = "output.weight" not in file.tensors
    spec = ModelSpec(
        architecture=architecture.name,
        parameters=sum(info.rows * info.columns for info in file.tensors.values()),
        context_length=keys.count("context_length"),
        vocabulary_size=embedding.rows,
        embedding_length=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        epsilon=keys.positive("attention.layer_norm_rms_epsilon"),
        attention_scale=head_dim**-0.5,
        activation=architecture.activation,
        rotary=_rotary(keys, tensors, architecture, head_dim),
        embedding=embedding,
        layers=layers,
        output_norm=tensors.vector("output_norm.weight", width),
        output=Linear(embedding, None)
        if is_tied
        else tensors.linear("output", embedding.rows, width),
        folded=frozenset({"rope_freqs.weight"} & file.tensors.keys()),
    )
    tensors.refuse_unread()
    keys.expect_vocabulary(spec.vocabulary_size)
    return spec


def _rotary(
    keys: "_Keys", tensors: "_Tensors", architecture: Architecture, head_dim: int
) -> Rotary:
    """Inverse frequencies base^(-2i/R), over the linear factor and over `rope_freqs.weight`.

    RoFormer (arXiv 2104.09864) eq. 15; linear scaling is position interpolation (2306.15595).
    Llama 3.1's own scaling stands in the file as the divisors `rope_freqs.weight`.
    """
    dimensions = keys.count("rope.dimension_count", head_dim)
    if dimensions % 2 or dimensions > head_dim:
        keys.fail("rope.dimension_count", f"is {dimensions}, no even number up to {head_dim}")
    kind = keys.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        keys.refuse("rope.scaling.type", f"is {kind!r}, supported are none and linear")
    factor = keys.positive("rope.scaling.factor", keys.positive("rope.scale_linear", 1.0))
    base = keys.positive("rope.freq_base", 10000.0)
    exponents = np.arange(0, dimensions, 2, dtype=np.float64) / max(dimensions, 1)
    frequencies = base**-exponents / (1.0 if kind == "none" else factor)
    if "rope_freqs.weight" in tensors.file.tensors:
        tensors.vector("rope_freqs.weight", dimensions // 2)
        divisors = tensors.file.dequantize("rope_freqs.weight").astype(np.float64)
        if not (np.isfinite(divisors).all() and (divisors > 0).all()):
            raise GGUFError(
                f"{tensors.file.path}: tensor 'rope_freqs.weight' holds a divisor that is not "
                "positive and finite; get the file again or convert it anew"
            )
        frequencies = frequencies / divisors
    return Rotary(architecture.rotary_style, tuple(float(value) for value in frequencies))


class _Keys:
    """Metadata below the architecture's own prefix. Used by one thread during describe."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file

    def fail(self, key: str, problem: str) -> NoReturn:
        raise GGUFError(
            f"{self.file.path}: {self.file.architecture}.{key} {problem}; "
            "get the file again or convert it anew"
        )

    def refuse(self, key: str, problem: str) -> NoReturn:
        raise UnsupportedModel(
            f"{self.file.path}: {self.file.architecture}.{key} {problem}; "
            "this build cannot run such a model"
        )

    def value(self, key: str) -> object:
        return self.file.metadata.get(f"{self.file.architecture}.{key}")

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer; an array of them must hold one and the same for every layer."""
        value = self.value(key)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu":
            if (value != value[0]).any():
                self.refuse(key, "differs between layers")
            value = int(value[0])
        if value is None and default is not None:
            return default
        if value is None:
            self.fail(key, "is missing")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.fail(key, f"is {value!r}, no positive integer")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A positive, finite number."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if value is None:
            self.fail(key, "is missing")
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            self.fail(key, f"is {value!r}, no positive number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.value(key)
        return default if value is None else str(value)

    def refuse_changed_arithmetic(self) -> None:
        """Refuse keys of other families that a llama graph would silently leave out."""
        for key, neutral in NEUTRAL_VALUES.items():
            value = self.value(key)
            if value is not None and np.any(np.asarray(value) != neutral):
                self.refuse(key, f"is {value}, supported is {neutral:g}")

    def expect_vocabulary(self, rows: int) -> None:
        """The tokenizer and the embedding must agree on the number of tokens."""
        tokens = self.file.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, StringArray) and len(tokens) != rows:
            raise GGUFError(
                f"{self.file.path}: tokenizer.ggml.tokens has {len(tokens)} entries and "
                f"token_embd.weight {rows} rows; convert the model anew"
            )


class _Tensors:
    """The tensor directory, and which of it was read. Used by one thread during describe."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.read: set[str] = set()

    def linear(self, name: str, rows: int, columns: int) -> Linear:
        """`name`.weight and, where the file has one, `name`.bias."""
        bias = f"{name}.bias"
        return Linear(
            self.matrix(f"{name}.weight", rows, columns),
            self.vector(bias, rows) if bias in self.file.tensors else None,
        )

    def matrix(self, name: str, rows: int | None, columns: int) -> TensorInfo:
        """A matrix in any block format this build reads; `rows` None takes what there is."""
        info = self._take(name)
        if len(info.shape) != 2 or info.columns != columns or info.rows != (rows or info.rows):
            self._fail_shape(info, f"({rows or 'any'}, {columns})")
        if info.format not in MATRIX_FORMATS:
            raise UnsupportedModel(
                f"{self.file.path}: tensor {name!r} has block format {info.format}; "
                f"supported are: {', '.join(sorted(MATRIX_FORMATS))}"
            )
        return info

    def vector(self, name: str, length: int) -> TensorInfo:
        """A float32 vector: norm weights, biases and rope divisors are never quantized."""
        info = self._take(name)
        if info.shape != (length,):
            self._fail_shape(info, f"({length},)")
        if info.format != "F32":
            raise UnsupportedModel(
                f"{self.file.path}: tensor {name!r} is {info.format}; supported is F32"
            )
        return info

    def refuse_unread(self) -> None:
        """A tensor nobody asked for is a part of the model that would be left out."""
        unread = sorted(self.file.tensors.keys() - self.read)
        if unread:
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            raise UnsupportedModel(
                f"{self.file.path}: {self.file.architecture} models with "
                f"{', '.join(map(repr, unread[:3]))}{more} are not supported: "
                "no operator would read these tensors"
            )

    def _take(self, name: str) -> TensorInfo:
        info = self.file.tensors.get(name)
        if info is None:
            raise GGUFError(
                f"{self.file.path}: tensor {name!r} is missing; get the file again or convert "
                "the model anew"
            )
        self.read.add(name)
        return info

    def _fail_shape(self, info: TensorInfo, expected: str) -> NoReturn:
        raise GGUFError(
            f"{self.file.path}: tensor {info.name!r} has shape {info.shape} instead of {expected}; "
            "get the file again or convert the model anew"
        )
