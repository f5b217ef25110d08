"""The checks between a converted model and its publication, in their order.

Each compares what will be served with what the GGUF says: the graph with the tensor directory, and
ONNX Runtime's logits and text with the exact model in NumPy.
"""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from pipelines.validation.determinism import check_determinism
from pipelines.validation.greedy import check_greedy
from pipelines.validation.loading import check_session
from pipelines.validation.logits import check_logits
from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.perplexity import check_perplexity
from pipelines.validation.round_trip import check_tokenizer
from pipelines.validation.served import check_served, check_served_vectors
from pipelines.validation.structure import check_structure
from pipelines.validation.subject import Subject
from pipelines.validation.vectors import check_ids, check_same_vectors, check_vectors, no_text
from runtime.manifest import CheckResult
from runtime.progress import Amount, uncounted
from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One check. Immutable."""

    step: str
    """Shown while it runs."""
    run: Callable[[Subject], Outcome]
    of_vectors: Callable[[Subject], Outcome] | None = None
    """What is run instead for a model that pools; None: the same."""


CHECKS = {
    "structure": Check("Checking the graph against the GGUF", check_structure),
    "session": Check("Packing the weights and loading the model in ONNX Runtime", check_session),
    "tokenizer": Check(
        "Turning a text in many languages into tokens and back", check_tokenizer, check_ids
    ),
    "logits": Check("Comparing logits with the exact model", check_logits, check_vectors),
    "greedy": Check("Comparing greedy text with the exact model", check_greedy, no_text),
    "perplexity": Check("Comparing the perplexity of a text", check_perplexity, no_text),
    "determinism": Check(
        "Computing the same beside other requests", check_determinism, check_same_vectors
    ),
    "served": Check("Asking a server of the model", check_served, check_served_vectors),
}


def validate(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None] = lambda step: None,
    amount: Amount = uncounted,
    *,
    names: Collection[str] = tuple(CHECKS),
) -> tuple[CheckResult, ...]:
    """Run the checks of a converted model in order, up to the first that fails unaccepted.

    `progress` is called with each check's step as it begins, `amount` with the bytes of weights
    that it has gone through; `names` may leave some out.
    """
    return tuple(run_checks(folder, settings, progress, amount, names))


def run_checks(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount,
    names: Collection[str] = tuple(CHECKS),
) -> Iterator[CheckResult]:
    """`validate`, one result at a time."""
    subject = Subject(folder, settings, amount)
    for name, check in CHECKS.items():
        if name in names:
            progress(check.step)
            result = _result(name, check, subject)
            yield result
            if not result.allows_publishing:
                return


def _result(name: str, check: Check, subject: Subject) -> CheckResult:
    """Run one check; any exception in it is its failure.

    Figures that are not finite are only in the summary, since JSON has none.
    """
    began = time.perf_counter()
    passed = is_accepted = False
    measured = None
    try:
        is_pooled = subject.spec.pooling is not None
        run = check.of_vectors if is_pooled and check.of_vectors else check.run
        outcome = run(subject)
        passed = True
    except CheckFailed as failure:
        outcome, measured = failure.outcome, failure.measured
        is_accepted = _is_accepted(name, measured, subject.settings)
    except Exception as error:
        outcome = Outcome(f"{type(error).__name__}: {error}")
    return CheckResult(
        name=name,
        passed=passed,
        summary=outcome.summary,
        figures={key: value for key, value in outcome.figures.items() if isfinite(value)},
        series={
            key: tuple(float(f"{v:.4g}") for v in values)
            for key, values in outcome.series.items()
            if all(map(isfinite, values))
        },
        measured=measured if measured is not None and isfinite(measured) else None,
        is_accepted=is_accepted,
        seconds=round(time.perf_counter() - began, 3),
    )


def _is_accepted(name: str, measured: float | None, settings: Settings) -> bool:
    """Whether a check's failure is accepted: up to a figure if it has one, else if it has none."""
    for accepted, limit in settings.accept_check.items():
        if accepted == name:
            return measured is None if limit is None else measured is not None and measured <= limit
    return False
