"""The determinism check: the same tokens give the same bits, alone or in a batch."""

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.steps import cached_steps, one_row, pages_for, rows
from pipelines.validation.subject import GREEDY_TOKENS, PROMPT_TOKENS, Subject

SINGLE_TOKENS = 4
"""Tokens at the end of the prompt that are computed one by one, each of which reads the weights."""


def check_determinism(subject: Subject) -> Outcome:
    """Logits of the prompt are the same in another session, in a batch and in pieces."""
    tokens, session = subject.prompt, subject.session
    own = pages_for(PROMPT_TOKENS + GREEDY_TOKENS)
    expected = session.run(one_row(tokens)).copy()
    company = one_row(
        subject.passage[: 2 * PROMPT_TOKENS], first_page=own, pages=subject.pages - own
    )
    pieces = cached_steps(tokens, single=SINGLE_TOKENS, first_page=0)
    ways: dict[str, NDArray[np.float32]] = {
        "a second time": session.run(one_row(tokens)).copy(),
        "in another session": subject.new_session().run(one_row(tokens)).copy(),
        "beside another request": session.run(rows(company, one_row(tokens)))[
            -len(tokens) :
        ].copy(),
        "in pieces": np.concatenate([session.run(step).copy() for step in pieces]),
    }
    for way, logits in ways.items():
        different = np.flatnonzero((logits != expected).any(axis=-1))
        if len(different):
            most = float(np.abs(logits - expected).max())
            raise CheckFailed(
                f"computed {way}, the logits after token {different[0] + 1} of the prompt differ "
                f"by up to {most:.2g}"
            )
    return Outcome(f"the same bits {', '.join(ways)}", {"ways": len(ways)})
