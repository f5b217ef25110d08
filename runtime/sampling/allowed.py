"""Logits of a step of which some rows may only give certain tokens."""

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.logits import UNKNOWN, Logits, RowMemory
from runtime.token_mask import TokenMask


class AllowedLogits:
    """A step's logits, of which masked rows give only some tokens. Owned by the engine thread.

    What is left out has a logit of minus infinity; the library reads the masks where they are.
    """

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self.vocabulary_size = logits.vocabulary_size
        self.likeliest = list(logits.likeliest)
        self.finite = logits.finite
        self._masks: dict[int, TokenMask] = {}

    def allow(self, row: int, mask: TokenMask) -> None:
        """Allow a row, whose maximum is finite, only the tokens of a mask, at least one.

        A mask may be longer or shorter than the row; tokens behind its end are not allowed, nor are
        bits behind the row's end tokens.
        """
        self._masks[row] = mask
        if self._logits.likeliest[row] not in mask:
            self.likeliest[row] = UNKNOWN

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V], not to be written to."""
        values = self._logits.row(row)
        mask = self._masks.get(row)
        if mask is None:
            return values
        return np.where(mask.array(values.size), values, np.float32(-np.inf))

    def memory(self, row: int) -> RowMemory:
        """Where a row is, valid as long as this object."""
        memory = self._logits.memory(row)
        mask = self._masks.get(row)
        if mask is None:
            return memory
        return memory._replace(mask=mask.words.ctypes.data, mask_words=mask.words.size)
