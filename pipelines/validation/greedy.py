"""The greedy check: is the text the one that the exact model would write."""

import numpy as np

from pipelines.validation.comparison import likelihoods, log_softmax
from pipelines.validation.logits import NEAR_TIE
from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.subject import Subject


def check_greedy(subject: Subject) -> Outcome:
    """Check that greedy tokens are the exact model's, except for near-ties."""
    generated = subject.greedy
    exact = subject.exact_greedy_logits
    gaps = log_softmax(exact).max(axis=-1) - likelihoods(exact, generated)
    text = subject.tokenizer.decode(generated)
    figures = {"same_tokens": int((gaps == 0).sum()), "largest_gap": float(gaps.max())}
    if not gaps.max() <= NEAR_TIE:
        first = int(np.argmax(gaps > NEAR_TIE))
        raise CheckFailed(
            f"token {first + 1} of the greedy text {text!r} is {gaps[first]:.2f} nats less "
            "likely than the exact model's own",
            figures,
            measured=float(gaps.max()),
        )
    others = len(generated) - figures["same_tokens"]
    ties = f"; {others} tokens are near-ties" if others else ""
    return Outcome(f"continues with {text!r} as the exact model does{ties}", figures)
