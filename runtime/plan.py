"""What one step computes, row by row, and the arrays that say so to the session."""

from dataclasses import dataclass
from itertools import chain

import numpy as np

from runtime.sequence import Sequence
from runtime.step import StepInputs


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One sequence's share of a step: `count` tokens from its position `start` on, then a draft."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    """Whether the row reaches the sequence's end, so that its logits give the next token."""
    draft: tuple[int, ...] = ()
    """Guesses at what follows; their logits give the tokens after those of them that hold."""

    @property
    def end(self) -> int:
        """Position after the last token that is computed, guesses included."""
        return self.start + self.count + len(self.draft)

    def token_ids(self) -> list[int]:
        """What is computed."""
        return [*self.sequence.tokens[self.start : self.start + self.count], *self.draft]

    @property
    def logits(self) -> int:
        """How many of its last tokens' logits are wanted."""
        return 1 + len(self.draft) if self.samples else 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step computes. Immutable."""

    rows: tuple[PlannedRow, ...]
    pauses: bool = False
    """Whether sequences that generate are left out, for the sake of prompts."""

    @property
    def sampled(self) -> tuple[PlannedRow, ...]:
        """The rows that get tokens, in the order of the logits."""
        return tuple(row for row in self.rows if row.samples)

    @property
    def token_count(self) -> int:
        """Tokens of the step over all rows."""
        return sum(row.end - row.start for row in self.rows)

    def inputs(self) -> StepInputs:
        """The step's arrays. The page table is as wide as the longest row needs."""
        rows = self.rows
        row_starts = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum([row.end - row.start for row in rows], out=row_starts[1:])
        page_table = np.zeros((len(rows), max(len(row.sequence.pages) for row in rows)), np.int32)
        for index, row in enumerate(rows):
            page_table[index, : len(row.sequence.pages)] = row.sequence.pages
        total = int(row_starts[-1])
        return StepInputs(
            token_ids=np.fromiter(
                chain.from_iterable(row.token_ids() for row in rows), np.int32, total
            ),
            positions=np.fromiter(
                chain.from_iterable(range(row.start, row.end) for row in rows), np.int32, total
            ),
            row_starts=row_starts,
            page_table=page_table,
            logit_rows=np.fromiter(
                chain.from_iterable(
                    range(end - row.logits, end)
                    for row, end in zip(rows, row_starts[1:].tolist(), strict=True)
                ),
                np.int32,
            ),
        )
