"""The session check: does the model load and compute."""

import numpy as np

from pipelines.conversion.graph import result_width
from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.steps import one_row
from pipelines.validation.subject import Subject


def check_session(subject: Subject) -> Outcome:
    """A session loads, and a step gives finite logits of the right shape."""
    subject.pack()
    session = subject.new_session()
    tokens = subject.prompt[:2]
    logits = session.run(one_row(tokens))
    expected = (len(tokens), result_width(subject.spec))
    if logits.shape != expected:
        raise CheckFailed(f"logits have shape {logits.shape} instead of {expected}")
    if not np.isfinite(logits).all():
        raise CheckFailed("logits are not finite")
    return Outcome(f"a session on {session.device} computes finite logits")
