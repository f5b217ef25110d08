"""The middle of noisy values, and how sure it is. Pure functions."""

from collections.abc import Sequence
from functools import cache
from math import atan, cos, hypot, pi, sin, sqrt
from statistics import mean, stdev

import msgspec
import numpy as np

CONFIDENCE = 0.95
MIN_BLOCKS = 3
"""Fewer leave an interval so wide that nothing can be judged."""


class Interval(msgspec.Struct, frozen=True):
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def interval(blocks: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval of the mean of blocks, of which each gave one value.

    Blocks are independent and about normal; rounds inside a block are neither, since they share
    their processes. A wild block widens the interval more than it moves the mean, so it decides
    nothing. None for fewer than MIN_BLOCKS.
    """
    count = len(blocks)
    if count < MIN_BLOCKS:
        return None
    middle = mean(blocks)
    reach = student_quantile(count - 1, confidence) * stdev(blocks) / sqrt(count)
    return Interval(middle, middle - reach, middle + reach)


def middle(values: Sequence[float]) -> float:
    """Hodges' and Lehmann's estimate: the median of the means of all pairs, each with itself too.

    A few wild values do not move it, and it is nearly as sure as the mean.
    """
    sample = np.asarray(values, np.float64)
    first, second = _pairs(len(sample))
    return float(np.median((sample[first] + sample[second]) / 2))


@cache
def student_quantile(degrees: int, confidence: float) -> float:
    """Return the t such that Student's distribution is within ±t with this probability."""
    low, high = 0.0, 1e6
    while high - low > 1e-9 * high:
        t = (low + high) / 2
        low, high = (t, high) if _student_within(t, degrees) < confidence else (low, t)
    return high


def _student_within(t: float, degrees: int) -> float:
    """Return the probability to be within ±t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = atan(t / sqrt(degrees))
    cosine = sqrt(degrees) / hypot(sqrt(degrees), t) if t else cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for step in range(2 + odd, degrees, 2):
        term *= cosine * cosine * (step - 1) / step
        total += term
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


@cache
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(count)
    return first, second
