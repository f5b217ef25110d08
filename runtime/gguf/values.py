"""The parts of a GGUF header: metadata values, and location and format of each tensor."""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from runtime.errors import GGUFError

LENGTH = struct.Struct("<Q")


class StringArray(Sequence[str]):
    """Array of strings in a GGUF header, decoded on first use. Immutable."""

    def __init__(self, raw: memoryview, count: int, where: str) -> None:
        """Take `count` length-prefixed strings that fill `raw`; `where` names them in errors."""
        self.raw = raw
        self._count = count
        self._where = where

    @cached_property
    def _strings(self) -> tuple[str, ...]:
        data = bytes(self.raw)
        strings: list[str] = []
        position = 0
        unpack = LENGTH.unpack_from
        try:
            for _ in range(self._count):
                start = position + 8
                position = start + unpack(data, position)[0]
                strings.append(data[start:position].decode())
        except UnicodeDecodeError:
            raise GGUFError(
                f"{self._where}[{len(strings)}] is not UTF-8; get the file again or convert it anew"
            ) from None
        return tuple(strings)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._strings)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._strings[index]

    def __repr__(self) -> str:
        return f"StringArray({self._count} strings)"


@dataclass(frozen=True, slots=True)
class Unread:
    """A value that is not read: an array of arrays, or text that is not UTF-8."""

    kind: str


Value = bool | int | float | str | StringArray | npt.NDArray[np.generic] | Unread


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Location and format of a tensor. `shape` is in NumPy order: contiguous columns last."""

    name: str
    format: str
    """GGML name of the block format: F32, F16, Q4_1, ..."""
    shape: tuple[int, ...]
    offset: int
    """Absolute, in bytes from the start of its file."""
    size: int
    """Bytes."""
    piece: int = 0
    """Index of the model's file that it is in, from 0."""

    @property
    def rows(self) -> int:
        """Product of all dimensions but the last."""
        return math.prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        """Number of weights in a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of blocks."""
        return self.size // self.rows
