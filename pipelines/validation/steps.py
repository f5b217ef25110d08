"""Steps over a few sequences, as checks and tests run them on a session and on the exact model."""

import numpy as np
from numpy.typing import NDArray

from runtime.interface import NO_SLOT
from runtime.step import StepInputs

PAGE_SIZE = 8


def pages_for(tokens: int) -> int:
    """Number of pages that this many tokens take."""
    return -(-tokens // PAGE_SIZE)


def one_row(
    tokens: list[int], start: int = 0, *, first_page: int = 0, pages: int = 4
) -> StepInputs:
    """A step over one sequence from position `start` on, with all its logits.

    Its pages lie backwards in the pool, so that an ignored page table shows. Its state, if the
    model has one, is in the slot of its first page's number.
    """
    backwards = np.arange(first_page + pages - 1, first_page - 1, -1, dtype=np.int32)
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=np.arange(start, start + len(tokens), dtype=np.int32),
        row_starts=np.array([0, len(tokens)], np.int32),
        page_table=backwards[None, :],
        logit_rows=np.arange(len(tokens), dtype=np.int32),
        state_starts=np.array([first_page if start else NO_SLOT], np.int32),
        state_slots=np.array([NO_SLOT] * (len(tokens) - 1) + [first_page], np.int32),
    )


def rows(*steps: StepInputs) -> StepInputs:
    """Combine several steps into one. Shorter page tables are padded with their last page."""
    lengths = [len(step.token_ids) for step in steps]
    width = max(step.page_table.shape[1] for step in steps)
    tables = [
        np.pad(s.page_table, ((0, 0), (0, width - s.page_table.shape[1])), "edge") for s in steps
    ]
    shifts = np.cumsum([0, *lengths[:-1]])
    starts = [step.row_starts[:-1] + shift for step, shift in zip(steps, shifts, strict=True)]
    wanted = [step.logit_rows + shift for step, shift in zip(steps, shifts, strict=True)]
    return StepInputs(
        token_ids=np.concatenate([step.token_ids for step in steps]),
        positions=np.concatenate([step.positions for step in steps]),
        row_starts=np.concatenate([*starts, [sum(lengths)]]).astype(np.int32),
        page_table=np.concatenate(tables),
        logit_rows=np.concatenate(wanted).astype(np.int32),
        state_starts=_joined([step.state_starts for step in steps]),
        state_slots=_joined([step.state_slots for step in steps]),
    )


def _joined(parts: list[NDArray[np.int32] | None]) -> NDArray[np.int32]:
    return np.concatenate([part for part in parts if part is not None])


def cached_steps(
    tokens: list[int], *, single: int, first_page: int, pages: int = 4
) -> list[StepInputs]:
    """Return a prefill, then steps for the last `single` tokens, one by one with the cache."""
    cut = max(1, len(tokens) - single)
    first = one_row(tokens[:cut], first_page=first_page, pages=pages)
    return [
        first,
        *(
            one_row([tokens[at]], at, first_page=first_page, pages=pages)
            for at in range(cut, len(tokens))
        ),
    ]
