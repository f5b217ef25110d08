"""The recurrences of tiny random models: their keys and tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.tiny_model import TinyModel, Writing

Value = str | int | float | bool | Sequence[int] | Sequence[float]
"""Of a key in the metadata."""


@dataclass(frozen=True, kw_only=True)
class ShortConvolution:
    """The layers of LFM2 without attention."""

    taps: int = 3

    def keys(self, model: "TinyModel") -> dict[str, Value]:
        """What stands in the file's metadata."""
        return {"shortconv.l_cache": self.taps, "attention.head_count_kv": _kv_heads(model)}

    def write(self, writing: "Writing", block: str) -> None:
        """Write the tensors of one block."""
        width = writing.model.embedding
        writing.matrix(f"{block}.shortconv.in_proj", 3 * width, width)
        writing.table(f"{block}.shortconv.conv.weight", width, self.taps)
        writing.matrix(f"{block}.shortconv.out_proj", width, width)


@dataclass(frozen=True, kw_only=True)
class DeltaNet:
    """The layers of Qwen3-Next and Qwen3.5 without attention."""

    heads: int = 4
    key_heads: int = 2
    head_dim: int = 16
    taps: int = 4
    fused: bool = False
    """Alpha and beta come of one matrix."""

    def keys(self, model: "TinyModel") -> dict[str, Value]:
        """What stands in the file's metadata."""
        return {
            "ssm.conv_kernel": self.taps,
            "ssm.inner_size": self.heads * self.head_dim,
            "ssm.state_size": self.head_dim,
            "ssm.time_step_rank": self.heads,
            "ssm.group_count": self.key_heads,
            "full_attention_interval": min({*range(model.layers)} - {*model.recurrent_layers}) + 1,
        }

    def write(self, writing: "Writing", block: str) -> None:
        """Write the tensors of one block."""
        width, values = writing.model.embedding, self.heads * self.head_dim
        mixed = 2 * self.key_heads * self.head_dim + values
        writing.matrix(f"{block}.attn_qkv", mixed, width)
        writing.matrix(f"{block}.attn_gate", values, width)
        writing.table(f"{block}.ssm_conv1d.weight", mixed, self.taps)
        writing.vector(f"{block}.ssm_dt.bias", self.heads, mean=0.0)
        writing.vector(f"{block}.ssm_a", self.heads, mean=-1.0)
        if self.fused:
            writing.matrix(f"{block}.ssm_ba", 2 * self.heads, width)
        else:
            writing.matrix(f"{block}.ssm_alpha", self.heads, width)
            writing.matrix(f"{block}.ssm_beta", self.heads, width)
        writing.vector(f"{block}.ssm_norm.weight", self.head_dim, mean=1.0)
        writing.matrix(f"{block}.ssm_out", width, values)


@dataclass(frozen=True, kw_only=True)
class StateSpace:
    """Mamba-2 with twice the model's width."""

    heads: int = 8
    groups: int = 1
    state_size: int = 16
    taps: int = 4
    norm: bool = True
    bias: bool = True
    has_short_shapes: bool = False
    """The axis of a single group is left out, as quantizers do."""

    def keys(self, model: "TinyModel") -> dict[str, Value]:
        """What stands in the file's metadata."""
        keys: dict[str, Value] = {
            "ssm.conv_kernel": self.taps,
            "ssm.inner_size": 2 * model.embedding,
            "ssm.state_size": self.state_size,
            "ssm.time_step_rank": self.heads,
            "ssm.group_count": self.groups,
        }
        if not model.beside_attention:
            keys["attention.head_count_kv"] = _kv_heads(model)
        if model.one_part:
            keys["feed_forward_length"] = [
                model.feed_forward if layer in model.feed_forward_layers else 0
                for layer in range(model.layers)
            ]
        return keys

    def write(self, writing: "Writing", block: str) -> None:
        """Write the tensors of one block."""
        width, inner = writing.model.embedding, 2 * writing.model.embedding
        convolved = inner + 2 * self.groups * self.state_size
        writing.matrix(f"{block}.ssm_in", inner + convolved + self.heads, width)
        writing.table(f"{block}.ssm_conv1d.weight", convolved, self.taps)
        if self.bias:
            writing.vector(f"{block}.ssm_conv1d.bias", convolved, mean=0.0)
        writing.vector(f"{block}.ssm_dt.bias", self.heads, mean=0.0)
        writing.vector(f"{block}.ssm_a", self.heads, mean=-1.0, stack=self.heads)
        writing.vector(f"{block}.ssm_d", self.heads, mean=1.0, stack=self.heads)
        if self.norm:
            stack = 0 if self.has_short_shapes else self.groups
            writing.vector(f"{block}.ssm_norm.weight", inner, mean=1.0, stack=stack)
        writing.matrix(f"{block}.ssm_out", width, inner)


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Mamba with twice the model's width."""

    state_size: int = 16
    rank: int = 8
    taps: int = 4
    norms: bool = False

    def keys(self, model: "TinyModel") -> dict[str, Value]:
        """What stands in the file's metadata."""
        keys: dict[str, Value] = {
            "ssm.conv_kernel": self.taps,
            "ssm.inner_size": 2 * model.embedding,
            "ssm.state_size": self.state_size,
            "ssm.time_step_rank": self.rank,
            "attention.head_count_kv": _kv_heads(model),
        }
        return keys

    def write(self, writing: "Writing", block: str) -> None:
        """Write the tensors of one block."""
        width, inner = writing.model.embedding, 2 * writing.model.embedding
        writing.matrix(f"{block}.ssm_in", 2 * inner, width)
        writing.table(f"{block}.ssm_conv1d.weight", inner, self.taps)
        writing.vector(f"{block}.ssm_conv1d.bias", inner, mean=0.0)
        writing.matrix(f"{block}.ssm_x", self.rank + 2 * self.state_size, inner)
        writing.matrix(f"{block}.ssm_dt", inner, self.rank)
        writing.vector(f"{block}.ssm_dt.bias", inner, mean=0.0)
        if self.norms:
            for name, size in (("dt", self.rank), ("b", self.state_size), ("c", self.state_size)):
                writing.vector(f"{block}.ssm_{name}_norm.weight", size, mean=1.0)
        # All below zero: a state that grows would drown everything else.
        decay = np.exp(writing.random.standard_normal((inner, self.state_size), np.float32))
        writing.writer.add_tensor(f"{block}.ssm_a", -decay)
        writing.vector(f"{block}.ssm_d", inner, mean=1.0)
        writing.matrix(f"{block}.ssm_out", width, inner)


@dataclass(frozen=True, kw_only=True)
class DeltaAttention:
    """The layers of Kimi Linear without attention."""

    head_dim: int = 16
    taps: int = 4
    has_short_shapes: bool = False
    """First axes of one value are left out, as quantizers do."""

    def keys(self, model: "TinyModel") -> dict[str, Value]:
        """What stands in the file's metadata."""
        heads = [min(each, 1) for each in _kv_heads(model)]
        return {
            "ssm.conv_kernel": self.taps,
            "kda.head_dim": self.head_dim,
            "attention.head_count_kv": heads,
        }

    def write(self, writing: "Writing", block: str) -> None:
        """Write the tensors of one block."""
        width, values = writing.model.embedding, writing.model.heads * self.head_dim
        for part in "qkv":
            writing.matrix(f"{block}.attn_{part}", values, width)
            shape = (1, values, 1, self.taps)[self.has_short_shapes :]
            writing.table(f"{block}.ssm_conv1d_{part}.weight", *shape)
        for part in "fg":
            writing.matrix(f"{block}.ssm_{part}_a", self.head_dim, width)
            writing.matrix(f"{block}.ssm_{part}_b", values, self.head_dim)
        writing.matrix(f"{block}.ssm_beta", writing.model.heads, width)
        decay = np.exp(writing.random.standard_normal((1, 1, writing.model.heads, 1), np.float32))
        writing.writer.add_tensor(
            f"{block}.ssm_a", -(decay[0, 0] if self.has_short_shapes else decay)
        )
        writing.vector(f"{block}.ssm_dt.bias", values, mean=0.0)
        writing.vector(f"{block}.ssm_norm.weight", self.head_dim, mean=1.0)
        writing.matrix(f"{block}.attn_output", width, values)


def _kv_heads(model: "TinyModel") -> Sequence[int]:
    """Key-value heads of each layer."""
    without = {*model.recurrent_layers, *model.feed_forward_layers}
    return [0 if layer in without else model.kv_heads for layer in range(model.layers)]


Recurrent = ShortConvolution | DeltaNet | DeltaAttention | StateSpace | Selective
