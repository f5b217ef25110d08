"""Logits of a step, fetched as a sampler needs them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library

BLOCK = 64
"""Logits of which one maximum is kept, as in runtime/ops/native."""

Best = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Tokens and logits [R, K] of the largest of each row, largest first, lower ids first."""


class Logits(Protocol):
    """Logits of one step, fetched as a sampler needs them. Valid until the next step."""

    @property
    def likeliest(self) -> list[int]:
        """The token of each row's largest logit, the lowest where several are; NaN is largest."""

    @property
    def finite(self) -> list[bool]:
        """Whether each row has a finite maximum."""

    @property
    def vocabulary_size(self) -> int:
        """Logits of a row."""

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V]."""

    def at(self, row: int, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of some tokens of a row."""

    def best(self, rows: Sequence[int], count: int) -> Best:
        """The `count` largest of rows, any of them more than once; all if there are fewer.

        Each row has a finite maximum.
        """


class StepLogits:
    """Logits of one step, float32 [R, V], and what is found for all rows at once.

    Owned by the engine thread, valid as long as the array, which is not copied.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = np.ascontiguousarray(values)
        rows, size = values.shape
        likeliest, finite = np.empty(rows, np.int64), np.empty(rows, np.bool_)
        self._maxima = np.empty((rows, -(-size // BLOCK)), np.float32)
        native_library().rocmforge_summarize_logits(
            *(self.values.ctypes.data, rows, size),
            *(self._maxima.ctypes.data, likeliest.ctypes.data, finite.ctypes.data),
        )
        self.likeliest: list[int] = likeliest.tolist()
        """The token of each row's largest logit, the lowest where several are."""
        self.finite: list[bool] = finite.tolist()
        """Whether each row has a finite maximum, and no logit that is no number."""

    @property
    def vocabulary_size(self) -> int:
        """Logits of a row."""
        size: int = self.values.shape[1]
        return size

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V], not copied."""
        values: NDArray[np.float32] = self.values[row]
        return values

    def at(self, row: int, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of some tokens of a row."""
        values: NDArray[np.float32] = self.values[row, tokens]
        return values

    def best(self, rows: Sequence[int], count: int) -> Best:
        """The `count` largest of rows, any of them more than once; all if there are fewer.

        The count-th largest maximum of a block is a bound that `count` logits reach and few more:
        only blocks that reach it are searched, and hardly more than `count` logits sorted.
        """
        size = self.vocabulary_size
        count = min(count, size)
        places = np.array(rows, np.int64)
        tokens = np.empty((len(places), count), np.int64)
        values = np.empty((len(places), count), np.float32)
        native_library().rocmforge_find_likeliest(
            *(self.values.ctypes.data, self._maxima.ctypes.data, size),
            *(places.ctypes.data, len(places), count, tokens.ctypes.data, values.ctypes.data),
        )
        return tokens, values


def sorted_best(tokens: NDArray[np.int64], values: NDArray[np.float32]) -> Best:
    """Tokens and logits [R, N], largest first; of equal ones the lowest id first.

    One number holds both, logit above token, so that a fast sort of numbers does.
    """
    bits = (-(values + np.float32(0.0))).view(np.int32)  # of 0 and -0 neither is larger
    ascending = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys = np.sort(ascending << 32 | tokens, axis=1)
    bits = (keys >> 32).astype(np.int32)
    sorted_values = -np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(np.float32)
    return keys & 0xFFFFFFFF, sorted_values
