"""The perplexity check: a text is as likely as it is to the exact model."""

import math

import numpy as np

from pipelines.validation.comparison import Comparison, likelihoods
from pipelines.validation.logits import NEAR_TIE
from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.steps import one_row
from pipelines.validation.subject import Subject

CHUNK = 48
"""Tokens per step: the passage is computed in chunks with a cache, as in a server."""


def check_perplexity(subject: Subject) -> Outcome:
    """The passage's tokens have the probabilities that the exact model gives them.

    The passage begins "Alice's Adventures in Wonderland" (Lewis Carroll, 1865), which is in the
    public domain. Perplexity is the exponential of the mean negative log-likelihood.
    """
    tokens = subject.passage
    pages = subject.pages
    logits = np.concatenate(
        [
            subject.session.run(one_row(tokens[start : start + CHUNK], start, pages=pages)).copy()
            for start in range(0, len(tokens), CHUNK)
        ]
    )
    exact = subject.exact_passage_logits
    comparison = Comparison.of(exact, logits)
    loss = -float(likelihoods(logits, tokens[1:]).mean())
    exact_loss = -float(likelihoods(exact, tokens[1:]).mean())
    figures = {
        "perplexity": math.exp(min(loss, 700.0)),
        "exact_perplexity": math.exp(min(exact_loss, 700.0)),
        "tokens": len(tokens),
        **comparison.figures(),
    }
    series = {"passage_divergence": comparison.divergences}
    most = subject.most_divergence
    # One token alone may be off by as much as decides a near-tie.
    most_loss = max(most, NEAR_TIE / (len(tokens) - 1))
    if not (abs(loss - exact_loss) <= most_loss and comparison.divergence <= most):
        worst = int(np.argmax(comparison.divergences))
        raise CheckFailed(
            f"perplexity is {figures['perplexity']:.4g} over {len(tokens)} tokens and "
            f"{figures['exact_perplexity']:.4g} of the exact model; the logits diverge by "
            f"{comparison.divergence:.3g} nats, most at position {worst + 1}",
            figures,
            series,
            measured=max(abs(loss - exact_loss), comparison.divergence),
        )
    return Outcome(
        f"perplexity {figures['perplexity']:.4g} over {len(tokens)} tokens, "
        f"{figures['exact_perplexity']:.4g} of the exact model",
        figures,
        series,
    )
