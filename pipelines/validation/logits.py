"""The logits check: are they those of the exact model, and is each operator its definition."""

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.comparison import Comparison
from pipelines.validation.outcome import CheckFailed, Figures, Outcome, Series
from pipelines.validation.parity import OperatorError
from pipelines.validation.steps import cached_steps, one_row, pages_for
from pipelines.validation.subject import GREEDY_TOKENS, PROMPT_TOKENS, Subject

CACHED_TOKENS = 4

MAX_OPERATOR_ERROR = 0.2
"""Relative error of one operator given the same inputs. Rounding activations to 8 bits costs 0.01
to 0.03; a wrong scale, offset or layout about 1."""
MAX_ROW_ERROR = 0.25
"""The same of one row of a matrix alone, which finds one wrong block of it."""
LOCAL = 2.0
"""A row this many times as wrong as the whole is reported as the place of the fault."""
NEAR_TIE = 1.5
"""Nats by which the exact model may prefer its own token: twice the most by which rounded
activations were seen to move a logit of a likely token. A wrong cache costs far more."""


def check_logits(subject: Subject) -> Outcome:
    """Logits of a prompt and of cached steps are the exact model's, and so is each operator."""
    tokens = subject.prompt
    exact = subject.exact_prompt_logits
    first_page = pages_for(PROMPT_TOKENS + GREEDY_TOKENS)
    steps = cached_steps(tokens, single=CACHED_TOKENS, first_page=first_page)
    at_once = subject.session.run(one_row(tokens)).copy()
    _expect_finite(exact, at_once)
    prefill = Comparison.of(exact, at_once)
    cached = Comparison.of(
        exact, np.concatenate([subject.session.run(step).copy() for step in steps])
    )
    worst = max(subject.operators, key=lambda each: each.alone)
    figures: Figures = {f"prefill_{name}": value for name, value in prefill.figures().items()}
    figures |= {f"cached_{name}": value for name, value in cached.figures().items()}
    figures["operator_error"] = worst.alone
    figures["row_error"] = max(each.row_error for each in subject.operators)
    series = {
        "prefill_divergence": prefill.divergences,
        "cached_divergence": cached.divergences,
        **by_layer(subject.operators),
    }
    expect_right_operators(subject, figures, series)
    divergence = max(prefill.divergence, cached.divergence)
    for name, comparison in (("a prefill", prefill), ("cached steps", cached)):
        if not comparison.divergence <= subject.most_divergence:
            raise CheckFailed(
                f"logits of {name} diverge from the exact model by "
                f"{comparison.divergence:.3g} nats, more than {subject.most_divergence}; no "
                f"operator alone is wrong, the worst is {worst.name} with {worst.alone:.1%}",
                figures,
                series,
                measured=divergence,
            )
        # Where another expert was chosen, one position may be far off: the mean decides.
        if not (subject.spec.has_experts or max(comparison.gaps) <= NEAR_TIE):
            at = int(np.argmax(comparison.gaps))
            raise CheckFailed(
                f"after token {at + 1} of {name} the most likely token is {comparison.gaps[at]:.2f}"
                " nats less likely than the exact model's own",
                figures,
                series,
                measured=divergence,
            )
    return Outcome(
        f"the model diverges by {divergence:.2g} nats from the exact one", figures, series
    )


def _expect_finite(exact: NDArray[np.float32], computed: NDArray[np.float32]) -> None:
    """Raise CheckFailed if one of the logits [T, V] is not finite."""
    for whose, logits in (("the exact model's logits", exact), ("logits", computed)):
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
        if len(wrong):
            raise CheckFailed(
                f"{whose} after token {wrong[0] + 1} of the prompt are not finite"
                + ("; the GGUF holds weights that are no numbers" if logits is exact else "")
            )


def expect_right_operators(subject: Subject, figures: Figures, series: Series) -> None:
    """Raise CheckFailed for the first operator that is wrong: those after it inherit its error."""
    for each in subject.operators:
        if each.row_error > MAX_ROW_ERROR and each.row_error > LOCAL * each.alone:
            raise CheckFailed(
                f"row {each.row} of {each.name} differs from its definition by "
                f"{each.row_error:.0%}",
                figures,
                series,
            )
        if not each.alone <= MAX_OPERATOR_ERROR:
            raise CheckFailed(
                f"{each.name} differs from its definition by {each.alone:.0%}", figures, series
            )


def by_layer(operators: list[OperatorError]) -> Series:
    """Of each layer the worst operator alone, and the error that its end has inherited."""
    layers = sorted({each.layer for each in operators if each.layer is not None})
    of_layer = [[each for each in operators if each.layer == layer] for layer in layers]
    return {
        "layer_operator_error": tuple(max(each.alone for each in some) for some in of_layer),
        "layer_error": tuple(some[-1].inherited for some in of_layer),
    }
