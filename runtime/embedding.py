"""Computes embeddings of texts: steps over whole texts, whose rows are pooled."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.manifest import Pooled
from runtime.session import Session
from runtime.step import StepInputs

Tokens = Sequence[int]
Vector = NDArray[np.float32]


class Embedder:
    """Computes vectors of texts on a session of a model that pools. Owned by one thread.

    A vector depends on its own text only: rows of a step do not depend on each other, and the mean
    is taken in float64, row by row.
    """

    def __init__(self, session: Session, *, page_size: int, token_budget: int) -> None:
        """Own a session. Raises InvalidRequest for a model that generates text."""
        manifest = session.manifest
        if manifest.pooled is None:
            raise InvalidRequest(
                f"{manifest.name} generates text and embeds none; take an embedding model"
            )
        self.pooled: Pooled = manifest.pooled
        self._session = session
        self._page_size = page_size
        self._pages = session.page_count
        self._vocabulary_size = manifest.vocabulary_size
        self.token_budget = min(token_budget, self._pages * page_size)
        """Tokens of a step, unless one text has more."""
        self.context_length = min(manifest.context_length, self._pages * page_size)
        """Most tokens of a text."""

    def check(self, tokens: Tokens) -> None:
        """Raise InvalidRequest for a text without tokens, with unknown ids, or too long."""
        if not tokens:
            raise InvalidRequest("a text has no tokens; send at least one character")
        if len(tokens) > self.context_length:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {self.context_length} tokens; a text has "
                f"{len(tokens)}: shorten it"
            )
        if min(tokens) < 0 or max(tokens) >= self._vocabulary_size:
            raise InvalidRequest(f"a token id is not between 0 and {self._vocabulary_size - 1}")

    def fitting(self, lengths: Sequence[int]) -> int:
        """Return how many texts of these lengths, from the first on, one step computes."""
        tokens = pages = count = 0
        for length in lengths:
            tokens += length
            pages += self._pages_of(length)
            if count and (tokens > self.token_budget or pages > self._pages):
                break
            count += 1
        return count

    def vectors(self, texts: Sequence[Tokens]) -> list[Vector]:
        """Return what the model gives for each text, float32 [width]; not normalized.

        In one step, or in several for a text that is longer than the budget in a model whose tokens
        attend to earlier ones only.
        """
        length = len(texts[0])
        if len(texts) == 1 and length > self.token_budget and self.pooled.causal:
            return [self._in_pieces(texts[0])]
        lengths = [len(text) for text in texts]
        starts = np.cumsum([0, *lengths]).astype(np.int32)
        steps = [np.arange(length, dtype=np.int32) for length in lengths]
        wanted = [self._wanted(length) for length in lengths]
        rows = self._session.run(
            StepInputs(
                token_ids=np.concatenate([np.array(text, np.int32) for text in texts]),
                positions=np.concatenate(steps),
                row_starts=starts,
                page_table=self._page_table(lengths),
                logit_rows=np.concatenate(
                    [each + start for each, start in zip(wanted, starts[:-1], strict=True)]
                ).astype(np.int32),
            )
        )
        ends = np.cumsum([0, *map(len, wanted)])
        return [mean(rows[start:end]) for start, end in pairwise(ends)]

    def _in_pieces(self, text: Tokens) -> Vector:
        table = self._page_table([len(text)])
        wanted = self._wanted(len(text))
        found: list[Vector] = []
        for start in range(0, len(text), self.token_budget):
            end = min(start + self.token_budget, len(text))
            here = wanted[(wanted >= start) & (wanted < end)]
            rows = self._session.run(
                StepInputs(
                    token_ids=np.array(text[start:end], np.int32),
                    positions=np.arange(start, end, dtype=np.int32),
                    row_starts=np.array([0, end - start], np.int32),
                    page_table=table,
                    logit_rows=(here - start).astype(np.int32),
                )
            )
            found.append(rows.copy())
        return mean(np.concatenate(found))

    def _wanted(self, length: int) -> NDArray[np.int32]:
        """Positions of the rows that are pooled."""
        if self.pooled.kind == "mean":
            return np.arange(length, dtype=np.int32)
        return np.array([0 if self.pooled.kind == "cls" else length - 1], np.int32)

    def _page_table(self, lengths: Sequence[int]) -> NDArray[np.int32]:
        counts = [self._pages_of(length) for length in lengths]
        table = np.zeros((len(lengths), max(counts)), np.int32)
        first = 0
        for row, count in enumerate(counts):
            table[row, :count] = np.arange(first, first + count)
            first += count
        return table

    def _pages_of(self, length: int) -> int:
        return -(-length // self._page_size)


def mean(rows: NDArray[np.float32]) -> Vector:
    """Return the mean [width] of rows [R, width]."""
    if len(rows) == 1:
        only: Vector = rows[0].copy()
        return only
    # Added up in order, so that the sum of a text does not depend on how rows are laid out.
    total = np.add.accumulate(rows, axis=0, dtype=np.float64)[-1]
    result: Vector = (total / len(rows)).astype(np.float32)
    return result


def normalized(vector: Vector, dimensions: int | None = None) -> Vector:
    """Return the first `dimensions` values, all by default, divided by their length."""
    kept = vector[:dimensions].astype(np.float64)
    length = float(np.sqrt(np.square(kept).sum())) or 1.0
    result: Vector = (kept / length).astype(np.float32)
    return result


def relevance(scores: Vector) -> float:
    """Return how well a pair fits, 0 to 1: the share of the first class, or a single's sigmoid."""
    first = float(scores[0])
    if len(scores) > 1:
        return first
    return 1 / (1 + math.exp(-first)) if first >= 0 else 1 - 1 / (1 + math.exp(first))


def expect_dimensions(dimensions: int | None, pooled: Pooled) -> None:
    """Raise InvalidRequest for another number of values than a vector can be cut to."""
    if dimensions is None:
        return
    if pooled.scores:
        raise InvalidRequest("a model that scores has no dimensions to choose", field="dimensions")
    if not 1 <= dimensions <= pooled.width:
        raise InvalidRequest(f"dimensions must be between 1 and {pooled.width}", field="dimensions")
