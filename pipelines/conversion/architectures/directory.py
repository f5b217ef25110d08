"""Checked access to a file's metadata keys and tensor directory."""

import math
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from pipelines.conversion.architectures.spec import Linear
from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile, StringArray, TensorInfo
from runtime.ops.library import block_formats

NEUTRAL_VALUES: Mapping[str, tuple[float, ...]] = {
    "attention.causal": (1,),
    "attention.clamp_kqv": (0,),
    "attention.key_length_swa": (),
    "attention.max_alibi_bias": (0,),
    "attention.output_scale": (0, 1),
    "attention.scale": (0,),
    "attention.shared_kv_layers": (0,),
    "attention.sliding_window": (0,),
    "attention.temperature_scale": (0,),
    "attention.value_scale": (0, 1),
    "attn_logit_softcapping": (0,),
    "deepstack_mapping": (-1,),
    "embedding_length_per_layer_input": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_gating_func": (0, 1),
    "expert_group_count": (0, 1),
    "expert_used_count": (0,),
    "expert_weights_scale": (0, 1),
    "final_logit_softcapping": (0,),
    "interleave_moe_layer_step": (0, 1),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "nextn_predict_layers": (0,),
    "residual_scale": (0, 1),
    "rope.dimension_count_swa": (),
    "rope.dimension_sections": (0,),
    "rope.scaling.alpha": (0,),
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "swiglu_clamp_exp": (0,),
    "swiglu_clamp_shexp": (0,),
    "use_parallel_residual": (0,),
}
"""Metadata keys that change the arithmetic unless they have one of the values given here."""

MAX_LAYERS = 4096
"""More than any model has: a count from a broken file must not be looped over."""


class Keys:
    """Metadata of one architecture, read with checks. Used by one thread during describe."""

    def __init__(self, file: GGUFFile) -> None:
        """Read the keys below the file's own architecture."""
        self.file = file
        self.read: set[str] = set()

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise GGUFError: the file is broken."""
        raise GGUFError(
            f"{self.file.path}: {self.file.architecture}.{key} {problem}; "
            "get the file again or convert it anew"
        )

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise UnsupportedModel: the file is valid, but this build cannot run it."""
        raise UnsupportedModel(
            f"{self.file.path}: {self.file.architecture}.{key} {problem}; "
            "this build cannot run such a model"
        )

    def value(self, key: str) -> object:
        """The file's value, or None."""
        self.read.add(key)
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

    def counts(self, key: str, default: int | None, layers: int) -> tuple[int, ...]:
        """A number that is not negative for each layer; the file may give one for all."""
        value = self.value(key)
        if not isinstance(value, np.ndarray):
            return (self.count(key, default),) * layers
        if value.dtype.kind == "b":
            value = value.astype(np.int8)
        if value.dtype.kind not in "iu" or len(value) < layers or (value < 0).any():
            self.fail(key, f"is {value}, no count for each of {layers} layers")
        return tuple(int(each) for each in value[:layers])

    def count_or_zero(self, key: str) -> int:
        """Return a positive integer, or 0 if it is not used."""
        value = self.value(key)
        return 0 if value is None or (isinstance(value, int) and value == 0) else self.count(key)

    def layer_count(self) -> int:
        """`block_count`, within reason."""
        count = self.count("block_count")
        if count > MAX_LAYERS:
            self.fail("block_count", f"is {count}, more than {MAX_LAYERS}")
        return count

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"is {value!r}, no number")
        if not math.isfinite(value):
            self.fail(key, f"is {value!r}, no finite number")
        return float(value)

    def numbers(self, key: str, layers: int) -> tuple[float, ...]:
        """A finite number for each layer; the file may give one for all.

        The key stands in the file as it is, not below the architecture's name.
        """
        value = self.file.metadata.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            return (float(value),) * layers
        if not isinstance(value, np.ndarray):
            self.fail(key, "is missing, or no number for each layer")
        if value.dtype.kind not in "iuf" or len(value) < layers or not np.isfinite(value).all():
            self.fail(key, f"is {value}, no number for each of {layers} layers")
        return tuple(float(each) for each in value[:layers])

    def positive(self, key: str, default: float | None = None) -> float:
        """A positive, finite number."""
        if self.value(key) is None and default is None:
            self.fail(key, "is missing")
        number = self.number(key, default or 0.0)
        if number <= 0:
            self.fail(key, f"is {number!r}, no positive number")
        return number

    def scale(self, key: str, default: float = 1.0) -> float:
        """A factor; files write 0 for one that is not used."""
        return self.number(key, default) or default

    def softcap(self, key: str, default: float) -> float:
        """A cap that is not negative; 0 for none."""
        cap = self.number(key, default)
        if cap < 0:
            self.fail(key, f"is {cap!r}, less than 0")
        return cap

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fail(key, f"is {value!r}, no text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(key, f"is {value!r}, neither true nor false")
        return value

    def refuse_unread(self) -> None:
        """Refuse keys of other families that the graph would silently leave out."""
        for key, neutral in NEUTRAL_VALUES.items():
            if key in self.read:
                continue
            value = self.value(key)
            self.read.discard(key)
            if value is not None and not np.isin(np.asarray(value), neutral).all():
                supported = " or ".join(f"{each:g}" for each in neutral) or "none"
                self.refuse(key, f"is {value}, supported is {supported}")

    def expect_vocabulary(self, rows: int) -> None:
        """The tokenizer and the embedding must agree on the number of tokens."""
        tokens = self.file.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, StringArray) and len(tokens) != rows:
            raise GGUFError(
                f"{self.file.path}: tokenizer.ggml.tokens has {len(tokens)} entries and "
                f"token_embd.weight {rows} rows; convert the model anew"
            )


class Tensors:
    """The tensor directory, and which of it was read. Used by one thread during describe."""

    def __init__(self, file: GGUFFile) -> None:
        """Start with nothing read."""
        self.file = file
        self.read: set[str] = set()
        self.folded: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.file.tensors

    def linear(self, name: str, rows: int, columns: int) -> Linear:
        """Return `name`.weight and, if the file has one, `name`.bias."""
        bias, scale = f"{name}.bias", f"{name}.scale"
        self.leave_out_tensor(f"{name}.input_scale")
        return Linear(
            self.matrix(f"{name}.weight", rows, columns),
            self.vector(bias, rows) if bias in self else None,
            self.vector(scale, 1) if scale in self else None,
        )

    def matrix(self, name: str, rows: int | None, columns: int) -> TensorInfo:
        """Return a matrix in any supported block format; `rows` None accepts any number."""
        info = self._take(name)
        if len(info.shape) != 2 or info.columns != columns or info.rows != (rows or info.rows):
            self._fail_shape(info, f"({rows or 'any'}, {columns})")
        self._expect_format(info)
        return info

    def stacked(self, name: str, count: int, rows: int, columns: int) -> Linear:
        """The matrices of `count` experts one after the other, with their optional biases."""
        weight = self._take(f"{name}.weight")
        if weight.shape != (count, rows, columns):
            self._fail_shape(weight, f"({count}, {rows}, {columns})")
        self._expect_format(weight)
        self.leave_out_tensor(f"{name}.input_scale")
        scale = f"{name}.scale"
        if scale in self:
            return Linear(weight, None, self.vector(scale, count))
        if f"{name}.bias" not in self:
            return Linear(weight, None)
        bias = self._take(f"{name}.bias")
        if bias.shape != (count, rows) or bias.format != "F32":
            self._fail_shape(bias, f"({count}, {rows}) in F32")
        return Linear(weight, bias)

    def rows_of(self, name: str) -> int:
        """Return the rows of a matrix, or of each of several; 1 if there is none."""
        info = self.file.tensors.get(name)
        return info.shape[-2] if info is not None and len(info.shape) > 1 else 1

    def rank(self, name: str) -> int:
        """Return the number of axes of a tensor; 0 if there is none."""
        info = self.file.tensors.get(name)
        return 0 if info is None else len(info.shape)

    def _expect_format(self, info: TensorInfo) -> None:
        if info.format not in block_formats():
            raise UnsupportedModel(
                f"{self.file.path}: tensor {info.name!r} has block format {info.format}; "
                f"supported are: {', '.join(sorted(block_formats()))}"
            )

    def vector(self, name: str, *lengths: int) -> TensorInfo:
        """A float32 vector of one of the lengths: norm weights and biases are never quantized."""
        info = self._take(name)
        if info.shape not in [(length,) for length in lengths]:
            self._fail_shape(info, " or ".join(f"({length},)" for length in lengths))
        if info.format != "F32":
            raise UnsupportedModel(
                f"{self.file.path}: tensor {name!r} is {info.format}; supported is F32"
            )
        return info

    def table(self, name: str, *shape: int) -> TensorInfo:
        """A float32 array of that shape, which is never quantized."""
        info = self._take(name)
        if info.shape != shape or info.format != "F32":
            self._fail_shape(info, f"{shape} in F32")
        return info

    def divisors(self, name: str, length: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """A vector of positive numbers that conversion uses up."""
        self.vector(name, length)
        self.folded.add(name)
        divisors = self.file.dequantize(name).astype(np.float64)
        if not (np.isfinite(divisors).all() and (divisors > 0).all()):
            raise GGUFError(
                f"{self.file.path}: tensor {name!r} holds a divisor that is not positive; "
                "get the file again or convert the model anew"
            )
        return divisors

    def leave_out(self, block: str) -> None:
        """Count the tensors of a block as used: the model is complete without them."""
        names = {name for name in self.file.tensors if name.startswith(f"{block}.")}
        self.read |= names
        self.folded |= names

    def leave_out_tensor(self, name: str) -> None:
        """Count a tensor as used, where the file has it: it says how to round activations."""
        if name in self:
            self.read.add(name)
            self.folded.add(name)

    def refuse_unread(self) -> None:
        """Raise for unused tensors: a part of the model would be missing."""
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
