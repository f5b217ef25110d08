"""The arrays of one engine step, which the scheduler plans and the session computes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.interface import STEP_INPUTS


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

    def arrays(self) -> dict[str, NDArray[np.int32]]:
        """Return each array by the name of the graph's input."""
        return {name: getattr(self, name) for name in STEP_INPUTS}


def largest_step(tokens: int, logits: int, pages: int) -> StepInputs:
    """Return a step of one row of this many tokens and logits, in the first `pages` pages."""
    return StepInputs(
        token_ids=np.zeros(tokens, np.int32),
        positions=np.arange(tokens, dtype=np.int32),
        row_starts=np.array([0, tokens], np.int32),
        page_table=np.arange(pages, dtype=np.int32)[None],
        logit_rows=np.arange(logits, dtype=np.int32),
    )
