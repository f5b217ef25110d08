"""The arrays of one engine step, which the scheduler plans and the session computes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.interface import NO_SLOT, STATE_SLOTS, STATE_STARTS, STEP_INPUTS

PROMPT_LOGITS = 64
"""Maximum number of prompt tokens of a step whose logits are needed: each takes a whole row."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Inputs of the graph for one step over B rows with T tokens in all. Immutable.

    A row is one request's next tokens; rows may have any length and are concatenated.
    """

    token_ids: NDArray[np.int32]
    """[T]"""
    positions: NDArray[np.int32]
    """[T], each token's position in its own sequence, from 0."""
    row_starts: NDArray[np.int32]
    """[B + 1]; row b is tokens row_starts[b] to row_starts[b + 1]."""
    page_table: NDArray[np.int32]
    """[B, P]; entry p of row b is the page of its positions from p * page_size on."""
    logit_rows: NDArray[np.int32]
    """[R]; indices into T of the tokens whose logits are needed."""
    state_starts: NDArray[np.int32] | None = None
    """[B]; the slot of the state that a row continues from, NO_SLOT at a sequence's beginning."""
    state_slots: NDArray[np.int32] | None = None
    """[T]; the slot that the state after a token is written to, or NO_SLOT. Without these two row
    b continues in slot b."""

    def arrays(self, *, states: bool) -> dict[str, NDArray[np.int32]]:
        """Return each array by the name of the graph's input, with or without those of states."""
        named = {name: getattr(self, name) for name in STEP_INPUTS}
        if not states:
            return named
        if self.state_starts is not None and self.state_slots is not None:
            return named | {STATE_STARTS: self.state_starts, STATE_SLOTS: self.state_slots}
        return named | self._states_by_row()

    def _states_by_row(self) -> dict[str, NDArray[np.int32]]:
        rows = np.arange(len(self.row_starts) - 1, dtype=np.int32)
        lengths = np.diff(self.row_starts)
        starts, slots = rows.copy(), np.full(len(self.token_ids), NO_SLOT, np.int32)
        slots[self.row_starts[1:][lengths > 0] - 1] = rows[lengths > 0]
        begins = self.positions[np.minimum(self.row_starts[:-1], len(self.positions) - 1)] == 0
        starts[begins] = NO_SLOT
        return {STATE_STARTS: starts, STATE_SLOTS: slots}


def largest_step(tokens: int, logits: int, pages: int) -> StepInputs:
    """Return a step of one row of this many tokens and logits, in the first `pages` pages."""
    return StepInputs(
        token_ids=np.zeros(tokens, np.int32),
        positions=np.arange(tokens, dtype=np.int32),
        row_starts=np.array([0, tokens], np.int32),
        page_table=np.arange(pages, dtype=np.int32)[None],
        logit_rows=np.arange(logits, dtype=np.int32),
    )
