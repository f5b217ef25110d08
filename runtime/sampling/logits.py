"""Logits of a step, fetched as a sampler needs them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

COLUMN = 64
"""Logits of which one maximum is kept."""

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
        """The `count` largest of rows, which are named in ascending order; all if there are fewer.

        Each row has a finite maximum.
        """


class StepLogits:
    """Logits of one step, float32 [R, V], and what is found for all rows at once.

    Owned by the engine thread, valid as long as the array, which is not copied.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values
        likeliest = values.argmax(axis=1)
        self.likeliest: list[int] = likeliest.tolist()
        """The token of each row's largest logit, the lowest where several are; NaN is largest."""
        self.finite: list[bool] = np.isfinite(values[np.arange(len(values)), likeliest]).tolist()
        """Whether each row has a finite maximum."""

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
        """The `count` largest of rows, which are named in ascending order; all if there are fewer.

        The count-th largest of a row's column maxima is a bound that `count` logits reach and few
        more; so hardly more than those are sorted.
        """
        size = self.vocabulary_size
        if count >= size:
            return sorted_best(np.arange(size), self.values[rows])
        few = count <= size // COLUMN
        maxima = (self._column_maxima if few else self.values)[rows]
        bounds = np.full((len(self.values), 1), np.nan, np.float32)  # which nothing reaches
        bounds[rows, 0] = np.partition(maxima, -count, axis=1)[:, -count]
        of, tokens = np.divmod(np.flatnonzero(self.values >= bounds), size)
        found = np.bincount(of, minlength=len(self.values))[rows]
        is_there = np.arange(found.max()) < found[:, np.newaxis]
        ids = np.zeros(is_there.shape, np.int64)
        values = np.full(is_there.shape, -np.inf, np.float32)
        ids[is_there], values[is_there] = tokens, self.values[of, tokens]
        tokens, values = sorted_best(ids, values)
        return tokens[:, :count], values[:, :count]

    @cached_property
    def _column_maxima(self) -> NDArray[np.float32]:
        """[R, V // COLUMN]: entry c is the largest of c, c + V // COLUMN, ... of its row.

        So laid out, the maxima of all rows take a pass of wide instructions over the logits.
        """
        rows, size = self.values.shape
        columns = size // COLUMN
        maxima: NDArray[np.float32] = (
            self.values[:, : columns * COLUMN].reshape(rows, COLUMN, columns).max(axis=1)
        )
        return maxima


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
