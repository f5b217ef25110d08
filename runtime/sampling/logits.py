"""Logits of a step, fetched as a sampler needs them."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library

BLOCK = 64
"""Logits of which one maximum is kept, as in runtime/ops/native."""

UNKNOWN = -1
"""Stands for a token that has not been searched for."""


class RowMemory(NamedTuple):
    """Addresses of a row of logits and of what is known of it: 0 where there is nothing."""

    logits: int
    """float32 [size], 0 if they are not in the host's memory."""
    maxima: int
    """float32 [ceil(size / BLOCK)]: the largest of each block."""
    size: int
    known_tokens: int = 0
    """int64 [known]: the likeliest tokens, likeliest first, where the logits are not here."""
    known_logits: int = 0
    """float32 [known]."""
    known: int = 0
    mask: int = 0
    """uint64 [mask_words], a TokenMask's words: the tokens that are allowed."""
    mask_words: int = 0


class Logits(Protocol):
    """Logits of one step, fetched as a sampler needs them. Valid until the next step."""

    @property
    def likeliest(self) -> list[int]:
        """The token of each row's largest logit, the lowest where several are, or UNKNOWN."""

    @property
    def finite(self) -> list[bool]:
        """Whether each row has a finite maximum."""

    @property
    def vocabulary_size(self) -> int:
        """Logits of a row."""

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V]."""

    def memory(self, row: int) -> RowMemory:
        """Where a row is, valid as long as this object."""


class StepLogits:
    """Logits of one step, float32 [R, V], and what is found for all rows at once.

    Owned by the engine thread, valid as long as the array, which is not copied.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = np.ascontiguousarray(values)
        rows, size = values.shape
        self.vocabulary_size: int = size
        """Logits of a row."""
        likeliest, finite = np.empty(rows, np.int64), np.empty(rows, np.bool_)
        self._maxima = np.empty((rows, -(-size // BLOCK)), np.float32)
        self._logits_at, self._maxima_at = self.values.ctypes.data, self._maxima.ctypes.data
        native_library().rocmforge_summarize_logits(
            *(self._logits_at, rows, size),
            *(self._maxima_at, likeliest.ctypes.data, finite.ctypes.data),
        )
        self.likeliest: list[int] = likeliest.tolist()
        """The token of each row's largest logit, the lowest where several are."""
        self.finite: list[bool] = finite.tolist()
        """Whether each row has a finite maximum, and no logit that is no number."""

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V], not copied."""
        values: NDArray[np.float32] = self.values[row]
        return values

    def memory(self, row: int) -> RowMemory:
        """Where a row is, valid as long as this object."""
        size = self.vocabulary_size
        maxima_at = self._maxima_at + row * -(-size // BLOCK) * 4
        return RowMemory(self._logits_at + row * size * 4, maxima_at, size)
