"""A judged record in words and as a table, for the UI and for a terminal."""

from collections.abc import Sequence

from pipelines.benchmark.figures import FigureKind, Spread
from pipelines.regression.history import Record
from pipelines.regression.judge import Verdict

COLUMNS = (
    "figure",
    "unit",
    "median",
    "against",
    "was",
    "times worse",
    "interval",
    "allowed",
    "verdict",
)

DESCRIBED = 3
"""So many of what became worse are told in words, the others by name."""


def summary(record: Record) -> str:
    """The verdict in a sentence: what is worse and by how much, or that nothing is."""
    kinds = {kind.name: kind for kind in record.measurement.result.kinds()}
    if record.regressed:
        worst_first = sorted(record.regressed, key=_severity, reverse=True)
        told = [described(each, kinds[each.figure]) for each in worst_first[:DESCRIBED]]
        others = [kinds[each.figure].title for each in worst_first[DESCRIBED:]]
        return "; ".join(told) + (f". Worse too: {'; '.join(others)}" if others else "")
    references = sorted({verdict.against for verdict in record.verdicts})
    text = f"none of {len(kinds)} figures is worse than {' or '.join(references)}"
    if not references:
        text = "there is nothing to compare with: no version before, and no baseline of nights"
    if record.accepted:
        text += "; accepted as the usual"
    if not record.measurement.is_quiet:
        share = record.measurement.result.others_processor_share
        text += f"; other programs took {share:.0%} of the processors, so nights are not compared"
    return text


def described(verdict: Verdict, kind: FigureKind) -> str:
    """One verdict in words."""
    worse = verdict.times_worse
    if worse is None:
        return f"{kind.title}: {verdict.samples} samples are too few to be judged"
    return (
        f"{kind.title} is {worse.estimate:.2f} times worse than {verdict.against} "
        f"({worse.low:.2f} to {worse.high:.2f}; {verdict.allowed:.2f} is allowed)"
    )


def rows(record: Record, verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for each verdict, the worst first."""
    kinds = {kind.name: kind for kind in record.measurement.result.kinds()}
    ours = record.measurement.result.servers[0].figures
    worst_first = sorted(verdicts, key=_severity, reverse=True)
    return [_row(each, kinds[each.figure], ours[each.figure]) for each in worst_first]


def _row(verdict: Verdict, kind: FigureKind, samples: Sequence[float]) -> tuple[str, ...]:
    worse = verdict.times_worse
    return (
        kind.title,
        kind.unit,
        f"{Spread.of(samples).median:,.4g}",
        verdict.against,
        f"{verdict.reference:,.4g}",
        f"{worse.estimate:.3f}" if worse else "",
        f"{worse.low:.3f} to {worse.high:.3f}" if worse else "too few samples",
        f"{verdict.allowed:.2f}",
        "WORSE" if verdict.regressed else "",
    )


def _severity(verdict: Verdict) -> float:
    return verdict.times_worse.low / verdict.allowed if verdict.times_worse else 0.0
