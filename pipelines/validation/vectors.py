"""The checks of a model that pools: its vectors in the place of logits and text."""

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.comparison import relative_error
from pipelines.validation.logits import by_layer, expect_right_operators
from pipelines.validation.outcome import CheckFailed, Figures, Outcome
from pipelines.validation.steps import one_row, pages_for, rows
from pipelines.validation.subject import GREEDY_TOKENS, PROMPT_TOKENS, Subject, text
from runtime.embedding import mean, normalized

MAX_DISTANCE = 0.1
"""Most distance from the exact model's vector, relative to its length. Rounding activations to 8
bits costs up to 0.03; vectors at this distance have a cosine of 0.995."""


def check_vectors(subject: Subject) -> Outcome:
    """The vector of a text is the exact model's, and so is each operator."""
    exact = pooled(subject, subject.exact_prompt_logits)
    computed = pooled(subject, subject.session.run(one_row(subject.prompt)).copy())
    if not (np.isfinite(exact).all() and np.isfinite(computed).all()):
        raise CheckFailed("the vector of a text is not finite")
    worst = max(subject.operators, key=lambda each: each.alone)
    distance = relative_error(exact, computed)
    figures: Figures = {
        "distance": distance,
        "operator_error": worst.alone,
        "row_error": max(each.row_error for each in subject.operators),
    }
    if len(exact) > 1:
        figures["cosine"] = float(normalized(exact) @ normalized(computed))
    series = by_layer(subject.operators)
    expect_right_operators(subject, figures, series)
    if not distance <= MAX_DISTANCE:
        raise CheckFailed(
            f"the vector of a text is {distance:.1%} of its length away from the exact model's, "
            f"more than {MAX_DISTANCE:.0%}; no operator alone is wrong, the worst is {worst.name} "
            f"with {worst.alone:.1%}",
            figures,
            series,
            measured=distance,
        )
    return Outcome(
        f"the vector of a text is {distance:.2%} of its length away from the exact one",
        figures,
        series,
    )


def check_ids(subject: Subject) -> Outcome:
    """Check that a text in many languages has tokens of the model; they need not spell it."""
    size = subject.spec.vocabulary_size
    lines = text("languages.txt").splitlines()
    tokens = [subject.tokenizer.encode(line) for line in lines]
    for number, line in enumerate(tokens, 1):
        outside = [token for token in line if not 0 <= token < size]
        if outside or not line:
            raise CheckFailed(f"line {number} has no token, or one that the model lacks")
    count = sum(map(len, tokens))
    return Outcome(f"{len(lines)} lines in as many scripts have {count} tokens", {"tokens": count})


def check_same_vectors(subject: Subject) -> Outcome:
    """Check that rows of a text are the same in another session and beside another text."""
    tokens, session = subject.prompt, subject.session
    own = pages_for(PROMPT_TOKENS + GREEDY_TOKENS)
    expected = session.run(one_row(tokens)).copy()
    company = one_row(
        subject.passage[: 2 * PROMPT_TOKENS], first_page=own, pages=subject.pages - own
    )
    ways: dict[str, NDArray[np.float32]] = {
        "a second time": session.run(one_row(tokens)).copy(),
        "in another session": subject.new_session().run(one_row(tokens)).copy(),
        "beside another text": session.run(rows(company, one_row(tokens)))[-len(tokens) :].copy(),
    }
    for way, found in ways.items():
        if not np.array_equal(found, expected):
            most = float(np.abs(found - expected).max())
            raise CheckFailed(f"computed {way}, the rows of a text differ by up to {most:.2g}")
    return Outcome(f"the same bits {', '.join(ways)}", {"ways": len(ways)})


def no_text(subject: Subject) -> Outcome:
    """Nothing to check: the model gives vectors."""
    return Outcome("the model gives vectors and writes no text")


def pooled(subject: Subject, found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vector [width] of rows [T, width] of a text."""
    assert subject.spec.pooling is not None
    kind = subject.spec.pooling.kind
    return mean(found) if kind == "mean" else found[0] if kind == "cls" else found[-1]
