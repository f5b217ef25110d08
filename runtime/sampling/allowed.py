"""Logits of a step of which some rows may only give certain tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.logits import Best, Logits, StepLogits


class AllowedLogits:
    """A step's logits, of which masked rows give only some tokens. Owned by the engine thread.

    What is left out has a logit of minus infinity and never comes up among the best. A row's
    likeliest tokens are mostly allowed, so they are looked up in its mask; only where too few of
    them are, the row is reduced to the tokens that are.
    """

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self.vocabulary_size = logits.vocabulary_size
        self.likeliest = list(logits.likeliest)
        self.finite = list(logits.finite)
        self._masks: dict[int, NDArray[np.bool_]] = {}
        self._reduced: dict[int, tuple[NDArray[np.int64], StepLogits]] = {}

    def allow(self, row: int, mask: NDArray[np.bool_]) -> None:
        """Allow a row, whose maximum is finite, only the tokens of a mask, at least one.

        A mask may be longer or shorter than the row; tokens behind its end are not allowed.
        """
        missing = self.vocabulary_size - len(mask)
        if missing > 0:
            mask = np.concatenate([mask, np.zeros(missing, bool)])
        self._masks[row] = mask
        if not mask[self._logits.likeliest[row]]:
            tokens, logits = self._only_allowed(row)
            self.likeliest[row] = int(tokens[logits.likeliest[0]])
            self.finite[row] = logits.finite[0]

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V], not to be written to."""
        values = self._logits.row(row)
        mask = self._masks.get(row)
        if mask is None:
            return values
        return np.where(mask[: self.vocabulary_size], values, np.float32(-np.inf))

    def at(self, row: int, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of some tokens of a row."""
        values = self._logits.at(row, tokens)
        mask = self._masks.get(row)
        return values if mask is None else np.where(mask[tokens], values, np.float32(-np.inf))

    def best(self, rows: Sequence[int], count: int) -> Best:
        """The `count` largest allowed logits of rows, any of them more than once.

        Where fewer are allowed, they are followed by logits of minus infinity.
        """
        masks = [self._masks.get(row) for row in rows]
        if all(mask is None for mask in masks):
            return self._logits.best(rows, count)
        # Some more, as some are left out.
        tokens, values = self._logits.best(rows, count + count // 4 + 1)
        allowed = np.ones(tokens.shape, bool)
        for index, mask in enumerate(masks):
            if mask is not None:
                allowed[index] = mask[tokens[index]]
        if allowed[:, :count].all():
            return tokens[:, :count], values[:, :count]
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :count]
        tokens = np.take_along_axis(tokens, order, axis=1)
        left_out = ~np.take_along_axis(allowed, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        tokens[left_out], values[left_out] = 0, -np.inf
        for index in np.flatnonzero(left_out.any(axis=1)).tolist():
            own, logits = self._only_allowed(rows[index])
            places, most = logits.best([0], count)
            tokens[index, : places.shape[1]] = own[places[0]]
            values[index, : places.shape[1]] = most[0]
        return tokens, values

    def _only_allowed(self, row: int) -> tuple[NDArray[np.int64], StepLogits]:
        """The allowed tokens of a row, and their logits [1, allowed]."""
        if row not in self._reduced:
            tokens = np.flatnonzero(self._masks[row][: self.vocabulary_size])
            values = self._logits.row(row)[tokens]
            self._reduced[row] = tokens, StepLogits(values[np.newaxis])
        return self._reduced[row]
