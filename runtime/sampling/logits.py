"""Logits of a step, as far as a sampler asks for them."""

from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

COLUMN = 64
"""Logits of which one maximum is kept."""


class Logits(Protocol):
    """Logits of one step, as far as a sampler asks for them. Valid until the next step."""

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

    def best(self, row: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Tokens and logits of the `count` largest of a row, largest first, lower ids first."""


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

    def best(self, row: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Tokens and logits of the `count` largest of a row, largest first, lower ids first."""
        tokens = self.most_likely(row, count)
        return tokens, self.values[row][tokens]

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

    def most_likely(self, row: int, count: int) -> NDArray[np.intp]:
        """Ids of the `count` largest logits of a row, largest first, lower ids before higher ones.

        The count-th largest of the columns' maxima is a bound that `count` logits reach and few
        more; so hardly more than those are sorted.
        """
        logits = self.values[row]
        if count >= logits.size:
            return np.argsort(-logits, kind="stable")
        maxima = self._column_maxima[row] if count <= logits.size // COLUMN else logits
        tokens = np.flatnonzero(logits >= np.partition(maxima, -count)[-count])
        return tokens[np.argsort(-logits[tokens], kind="stable")][:count]
