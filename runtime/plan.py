"""The plan of one step, row by row, and its input arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.interface import NO_SLOT
from runtime.sequence import Sequence
from runtime.step import StepInputs


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One sequence's part of a step: `count` tokens from position `start` on, then a draft."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    """Whether the row reaches the sequence's end, so that its logits give the next token."""
    draft: tuple[int, ...] = ()
    """Drafted tokens; their logits give the tokens after the accepted ones."""
    state_start: int = NO_SLOT
    """Slot of the state before its first token."""
    states: Mapping[int, int] = field(default_factory=dict)
    """Slots that states are written to, by the number of tokens before; empty without states."""

    @property
    def end(self) -> int:
        """Position after the last computed token, including the draft."""
        return self.start + self.count + len(self.draft)

    def token_ids(self) -> list[int]:
        """Return the tokens to compute."""
        return [*self.sequence.tokens[self.start : self.start + self.count], *self.draft]

    @property
    def logits(self) -> int:
        """Number of last tokens whose logits are needed."""
        return 1 + len(self.draft) if self.samples else 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The plan of one step. Immutable."""

    rows: tuple[PlannedRow, ...]
    pauses: bool = False
    """Whether generating sequences are left out in favour of prompts."""
    scored: tuple[tuple[PlannedRow, range], ...] = ()
    """Rows with prompt positions whose logits are needed too, after those of the sampled rows."""

    @property
    def sampled(self) -> tuple[PlannedRow, ...]:
        """The rows that get tokens, in the order of the logits."""
        return tuple(row for row in self.rows if row.samples)

    @property
    def token_count(self) -> int:
        """Number of tokens in the step over all rows."""
        return sum(row.end - row.start for row in self.rows)

    def inputs(self) -> StepInputs:
        """Return the step's arrays. The page table is as wide as the longest row needs."""
        # Lists first: a call of NumPy per row would cost more than its numbers.
        token_ids: list[int] = []
        positions: list[int] = []
        row_starts = [0]
        logit_rows: list[int] = []
        page_table = np.zeros(
            (len(self.rows), max(len(row.sequence.pages) for row in self.rows)), np.int32
        )
        for index, row in enumerate(self.rows):
            token_ids += row.token_ids()
            positions += range(row.start, row.end)
            end = len(token_ids)
            row_starts.append(end)
            logit_rows += range(end - row.logits, end)
            page_table[index, : len(row.sequence.pages)] = row.sequence.pages
        for row, scored in self.scored:
            first = row_starts[self.rows.index(row)] - row.start
            logit_rows += range(first + scored.start, first + scored.stop)
        has_states = bool(self.rows[0].states)
        return StepInputs(
            token_ids=np.array(token_ids, np.int32),
            positions=np.array(positions, np.int32),
            row_starts=np.array(row_starts, np.int32),
            page_table=page_table,
            logit_rows=np.array(logit_rows, np.int32),
            state_starts=self._state_starts() if has_states else None,
            state_slots=self._state_slots(row_starts) if has_states else None,
        )

    def _state_starts(self) -> NDArray[np.int32]:
        return np.array([row.state_start for row in self.rows], np.int32)

    def _state_slots(self, row_starts: list[int]) -> NDArray[np.int32]:
        slots = np.full(row_starts[-1], NO_SLOT, np.int32)
        for row, first in zip(self.rows, row_starts, strict=False):
            for position, slot in row.states.items():
                slots[first + position - row.start - 1] = slot
        return slots
