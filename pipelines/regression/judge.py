"""Whether a model has become slower or larger: a verdict for each figure. Pure functions.

A figure is worse only where its whole confidence interval lies beyond what is allowed; so noise
that hides a change hides it, and does not look like one.
"""

import re
from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import median

import msgspec

from pipelines.benchmark.figures import LEAST, FigureKind
from pipelines.benchmark.results import ServerResult
from pipelines.regression.intervals import Interval, interval
from pipelines.regression.measurement import Measurement

BASELINE = "baseline"
ALLOWED = {
    "first_token_p95_ms": 1.25,
    "between_tokens_p95_ms": 1.25,
    "prefix_warm_ms": 1.25,
    "prefix_warm_decode_steps": 1.25,
    "start_seconds": 1.25,
}
"""Times worse that a figure may become; one of many streams is named without its number."""
ALLOWED_OTHERWISE = 1.1
BASELINE_NIGHTS = 3
"""So many good measurements make a baseline."""
KNOWN_NIGHTS = 8
"""So many tell how far nights of this machine lie apart."""
UNKNOWN_SPREAD = log(1.21) / 3
"""Spread of the logarithms of nights where it is not known, as of a virtual machine."""
SPREADS = 3
"""So many spreads from the usual a night still is as usual."""
MAD_TO_DEVIATION = 1.4826
"""From the median distance to the median to a standard deviation, in a normal distribution."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One figure against one reference."""

    figure: str
    against: str
    """"version 3", or "baseline"."""
    reference: float
    """Its median there, in the figure's unit, on the machine as it was at this measurement."""
    times_worse: Interval | None
    """Above 1 it is worse, whichever direction is better; None where samples were too few."""
    allowed: float
    samples: int

    @property
    def regressed(self) -> bool:
        """Whether all of the interval is beyond what is allowed."""
        return self.times_worse is not None and self.times_worse.low > self.allowed


def judge(
    measurement: Measurement, good: Sequence[Measurement], allowed: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """Verdicts against every other version that was measured beside, then against the baseline.

    `good` are earlier quiet measurements that were not regressed, of which the first server counts.
    `allowed` are times worse by figure, before our own. There is no verdict against the baseline
    where `good` are too few, or other programs disturbed this measurement.
    """
    kinds = measurement.result.kinds()
    ours, *others = measurement.result.servers
    verdicts = [
        _beside(kind, ours, other, limit(kind.name, allowed)) for other in others for kind in kinds
    ]
    if measurement.is_quiet and len(good) >= BASELINE_NIGHTS:
        verdicts += [
            _against_baseline(kind, measurement, good, limit(kind.name, allowed)) for kind in kinds
        ]
    return tuple(verdicts)


def limit(figure: str, allowed: Mapping[str, float]) -> float:
    """Times worse that a figure may become."""
    names = (figure, re.sub(r"^streams_\d+_", "", figure))
    found = (table[name] for table in (allowed, ALLOWED) for name in names if name in table)
    return next(found, ALLOWED_OTHERWISE)


def at_speed(kind: FigureKind, measurement: Measurement, speed: float) -> list[float]:
    """A figure's samples of our server as a machine of this speed would have given them."""
    samples = measurement.result.servers[0].figures[kind.name]
    power = machine_power(kind)
    speeds = measurement.speeds(len(samples))
    return [each * (speed / then) ** power for each, then in zip(samples, speeds, strict=True)]


def machine_power(kind: FigureKind) -> int:
    """How a figure follows the machine's speed: 1 with it, -1 against it, 0 not at all."""
    return {"tokens/s": 1, "ms": -1, "s": -1}.get(kind.unit, 0)


def times_worse(kind: FigureKind, value: float, reference: float) -> float:
    """Above 1 the value is worse than the reference."""
    value, reference = max(value, LEAST), max(reference, LEAST)
    return reference / value if kind.higher_is_better else value / reference


def _beside(kind: FigureKind, ours: ServerResult, other: ServerResult, allowed: float) -> Verdict:
    """Pair by pair: sample i of both was taken in the same round."""
    references = other.figures[kind.name]
    pairs = zip(ours.figures[kind.name], references, strict=True)
    ratios = [times_worse(kind, value, reference) for value, reference in pairs]
    return Verdict(
        figure=kind.name,
        against=other.name,
        reference=median(references),
        times_worse=_ratio_interval(ratios),
        allowed=allowed,
        samples=len(ratios),
    )


def _against_baseline(
    kind: FigureKind, measurement: Measurement, good: Sequence[Measurement], allowed: float
) -> Verdict:
    """Against the nights' median, all taken to the speed that the machine has today.

    Allowed is also what was good in the worst of them, and what lies within their usual spread.
    """
    nights = [median(at_speed(kind, night, measurement.speed)) for night in good]
    reference = median(nights)
    worse = [log(times_worse(kind, night, reference)) for night in nights]
    spread = MAD_TO_DEVIATION * median(map(abs, worse))
    if len(nights) < KNOWN_NIGHTS:
        spread = max(spread, UNKNOWN_SPREAD)
    today = at_speed(kind, measurement, measurement.speed)
    ratios = [times_worse(kind, value, reference) for value in today]
    return Verdict(
        figure=kind.name,
        against=BASELINE,
        reference=reference,
        times_worse=_ratio_interval(ratios),
        allowed=max(allowed, exp(max(worse)), exp(SPREADS * spread)),
        samples=len(ratios),
    )


def _ratio_interval(ratios: Sequence[float]) -> Interval | None:
    """Ratios multiply, so their logarithms are what is symmetric."""
    found = interval([log(ratio) for ratio in ratios])
    return found and Interval(exp(found.estimate), exp(found.low), exp(found.high))
