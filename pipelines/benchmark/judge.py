"""Whether a model has become slower or larger: a verdict for each figure. Pure functions.

A figure is worse only if its whole confidence interval is beyond what is allowed; so noise
that hides a change hides it, and does not look like one. Once worse it stays so until a measurement
is closer to the reference than to what is allowed.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from math import exp, log, sqrt
from statistics import median

import msgspec

from pipelines.benchmark.figures import LEAST, FigureKind, figure_kinds
from pipelines.benchmark.intervals import Interval, interval
from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.results import ServerResult
from pipelines.benchmark.shift import shift
from runtime.errors import SettingsError
from runtime.settings import PREFIX

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
OF_STREAMS = re.compile(r"^streams_\d+_")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One figure against one reference."""

    figure: str
    against: str
    """"version 3", or "baseline"."""
    reference: float
    """Its median there, in the figure's unit, on the machine as it was at this measurement."""
    times_worse: Interval | None
    """Above 1 it is worse, whichever direction is better; None where blocks were too few."""
    allowed: float
    samples: int
    was_worse: bool = False
    """Whether it was worse when last measured against this version."""
    nights: int = 1
    """How many of the newest nights are compared, this one included."""

    @property
    def regressed(self) -> bool:
        """Whether the whole interval is beyond what is allowed, or it has not recovered yet."""
        if self.times_worse is None:
            return self.was_worse
        if self.was_worse and self.times_worse.estimate > sqrt(self.allowed):
            return True
        return self.times_worse.low > self.allowed


class Earlier(msgspec.Struct, frozen=True):
    """The known state of a model before a measurement. Immutable."""

    nights: Sequence[Measurement] = ()
    """Quiet measurements like this one since the last acceptance, oldest first."""
    worse: Collection[tuple[str, str]] = ()
    """Figures that were worse when last measured against another version, and that version."""
    accepted: Mapping[tuple[str, str], float] = {}
    """Accepted factors of a figure against another version."""


def judge(
    measurement: Measurement, earlier: Earlier, allowed: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """Return verdicts against every other measured version, then against the baseline.

    The baseline are the earlier nights, of which the first server counts. `allowed` are times worse
    by figure, before our own. Of a measurement that other programs disturbed, nights are judged
    without it, figures that were worse in earlier nights stay worse, and no other is judged.
    """
    kinds = measurement.result.kinds()
    others = measurement.result.servers[1:]
    verdicts = [
        _beside(kind, measurement, other, earlier, limit(kind.name, allowed))
        for other in others
        for kind in kinds
    ]
    for kind in kinds:
        verdict = _against_nights(kind, measurement, earlier.nights, limit(kind.name, allowed))
        if verdict is not None and (measurement.is_quiet or verdict.regressed):
            verdicts.append(verdict)
    return tuple(verdicts)


def limit(figure: str, allowed: Mapping[str, float]) -> float:
    """Times worse that a figure may become."""
    names = (figure, OF_STREAMS.sub("", figure))
    found = (table[name] for table in (allowed, ALLOWED) for name in names if name in table)
    return next(found, ALLOWED_OTHERWISE)


def expect_figures(allowed: Mapping[str, float]) -> None:
    """Raise SettingsError if a limit names no figure."""
    known = {OF_STREAMS.sub("", kind.name) for kind in figure_kinds((1,))}
    of_streams = {kind.name for kind in figure_kinds((1,))} - {k.name for k in figure_kinds(())}
    suffixes = {OF_STREAMS.sub("", name) for name in of_streams}
    for name in allowed:
        bare = OF_STREAMS.sub("", name)
        if bare not in (known if bare == name else suffixes):
            raise SettingsError(
                f"{PREFIX}BENCHMARK_ALLOWED names {name}, which is no figure; figures are "
                f"{', '.join(sorted(known))}, those of streams also as streams_8_{min(suffixes)}"
            )


def block_logarithms(kind: FigureKind, measurement: Measurement, speed: float) -> list[float]:
    """Return the median of each block, as logarithms scaled to the machine's reference speed.

    Above others it is worse.
    """
    samples = at_speed(kind, measurement, speed)
    sign = -1 if kind.higher_is_better else 1
    return [
        median(sign * log(max(value, LEAST)) for value in block)
        for block in measurement.in_blocks(samples)
    ]


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


def _beside(
    kind: FigureKind,
    measurement: Measurement,
    other: ServerResult,
    earlier: Earlier,
    allowed: float,
) -> Verdict:
    """Compare in pairs: sample i of both was taken in the same round. Blocks are judged."""
    ours, references = measurement.result.servers[0].figures[kind.name], other.figures[kind.name]
    ratios = [
        log(times_worse(kind, value, reference))
        for value, reference in zip(ours, references, strict=True)
    ]
    compared = (kind.name, other.name)
    return Verdict(
        figure=kind.name,
        against=other.name,
        reference=median(references),
        times_worse=_ratio(interval([median(block) for block in measurement.in_blocks(ratios)])),
        allowed=allowed * max(1.0, earlier.accepted.get(compared, 1.0)),
        samples=len(ratios),
        was_worse=compared in earlier.worse,
    )


def _against_nights(
    kind: FigureKind, measurement: Measurement, nights: Sequence[Measurement], allowed: float
) -> Verdict | None:
    """Against the nights before, all taken to the speed that the machine has today."""
    compared = [*nights, measurement] if measurement.is_quiet else nights
    found = [
        interval(block_logarithms(kind, night, measurement.speed))
        for night in compared
        if kind.name in night.result.servers[0].figures
    ]
    lasting = shift([each for each in found if each is not None], log(allowed))
    if lasting is None or (measurement.is_quiet and found[-1] is None):
        return None
    return Verdict(
        figure=kind.name,
        against=BASELINE,
        reference=exp(-lasting.before if kind.higher_is_better else lasting.before),
        times_worse=_ratio(lasting.size),
        allowed=exp(lasting.allowed),
        samples=len(measurement.result.servers[0].figures[kind.name]),
        nights=lasting.nights,
    )


def _ratio(found: Interval | None) -> Interval | None:
    """Ratios multiply, so their logarithms are symmetric."""
    return found and Interval(exp(found.estimate), exp(found.low), exp(found.high))
