"""A judged record in words and as a table, for the UI and for a terminal."""

from collections.abc import Sequence

from pipelines.benchmark.figures import FigureKind, Spread
from pipelines.benchmark.history import Record
from pipelines.benchmark.judge import Verdict

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
"""Number of worse figures described in full; the others are only named."""


def summary(record: Record) -> str:
    """Return the verdict in a sentence: what is worse and by how much, nothing, or not judged.

    An acceptance, and figures that could not be compared, are always mentioned.
    """
    kinds = {kind.name: kind for kind in record.measurement.result.kinds()}
    if record.regressed:
        worst_first = sorted(record.regressed, key=_severity, reverse=True)
        sentences = [described(each, kinds[each.figure]) for each in worst_first[:DESCRIBED]]
        others = [kinds[each.figure].title for each in worst_first[DESCRIBED:]]
        text = "; ".join(sentences) + (f". Worse too: {'; '.join(others)}" if others else "")
    else:
        text = _of_no_regression(record)
    if record.accepted:
        text += "; accepted, so this is the usual from now on"
    if not record.measurement.is_quiet:
        share = record.measurement.result.others_processor_share
        text += f"; other programs took {share:.0%} of the processors, so "
        text += "the nights that follow begin anew" if record.accepted else "it counts as no night"
    return text


def _of_no_regression(record: Record) -> str:
    judged = [verdict for verdict in record.verdicts if verdict.times_worse is not None]
    figures = len({verdict.figure for verdict in judged})
    references = sorted({verdict.against for verdict in judged})
    missing = len(record.measurement.result.kinds()) - figures
    if record.accepted:
        worse = len({verdict.figure for verdict in judged if verdict.regressed})
        return f"{worse} of {figures} judged figures would be worse"
    if not record.verdicts:
        return "not judged: there is no version before, and too few quiet nights to compare with"
    if not judged:
        return "not judged: every figure has too few samples"
    text = f"none of {figures} figures is worse than {' or '.join(references)}"
    return text + (f"; not judged, for too few samples: {missing}" if missing else "")


def described(verdict: Verdict, kind: FigureKind) -> str:
    """One verdict in words."""
    worse = verdict.times_worse
    if worse is None:
        return f"{kind.title}: {verdict.samples} samples are too few to be judged"
    text = (
        f"{kind.title} is {worse.estimate:.2f} times worse than {verdict.against} "
        f"({worse.low:.2f} to {worse.high:.2f}; {verdict.allowed:.2f} is allowed)"
    )
    if verdict.nights > 1:
        text += f" over {verdict.nights} nights"
    if verdict.was_worse and worse.low <= verdict.allowed:
        text += ", and was certainly worse before"
    return text


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
        f"{worse.low:.3f} to {worse.high:.3f}" if worse else "",
        f"{verdict.allowed:.2f}",
        "WORSE" if verdict.regressed else "" if worse else "not judged: too few samples",
    )


def _severity(verdict: Verdict) -> float:
    return verdict.times_worse.low / verdict.allowed if verdict.times_worse else 0.0
