"""Whether what a server holds grows: the median slope over the second half of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median


@dataclass(frozen=True)
class Trend:
    """How one figure went over a run. Immutable."""

    name: str
    slope: float
    """Units an hour, over the second half: the median over all pairs of samples (Theil-Sen)."""
    first: float
    """Before the traffic, once everything had been made."""
    last: float
    """After the traffic."""
    most: float
    """The most while it lasted."""


def slope(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Units a second: the median of the slopes of all pairs; 0 where there are none.

    One odd sample in four does not move it (Theil, 1950; Sen, 1968).
    """
    pairs = combinations(zip(seconds, values, strict=True), 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] > a[0]]
    return median(slopes) if slopes else 0.0


def trend(name: str, seconds: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of samples, of which the first and the last were taken without traffic."""
    half = len(seconds) // 2
    per_second = slope(seconds[half:-1], values[half:-1])
    return Trend(name, per_second * 3600, values[0], values[-1], max(values))
