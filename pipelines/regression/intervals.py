"""An effect in noisy pairs, and how sure it is. Pure functions without any assumed distribution."""

from collections.abc import Sequence
from functools import cache
from statistics import median

import msgspec
import numpy as np

CONFIDENCE = 0.95


class Interval(msgspec.Struct, frozen=True):
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The middle of a symmetric distribution and its exact interval, from a sample of it.

    The estimate is Hodges' and Lehmann's: the median of the means of all pairs of values, each
    with itself too. The interval inverts Wilcoxon's signed-rank test (Hollander and Wolfe,
    Nonparametric Statistical Methods, chapter 3). A wild value moves neither far. None where so
    few values cannot be that sure of anything.
    """
    count = len(values)
    rank = _critical_rank(count, (1 - confidence) / 2)
    if rank is None:
        return None
    sample = np.asarray(values, np.float64)
    first, second = np.triu_indices(count)
    means = np.sort((sample[first] + sample[second]) / 2)
    return Interval(median(means.tolist()), float(means[rank]), float(means[-1 - rank]))


def least_values(confidence: float = CONFIDENCE) -> int:
    """How many values an interval takes."""
    count = 1
    while _critical_rank(count, (1 - confidence) / 2) is None:
        count += 1
    return count


@cache
def _critical_rank(count: int, tail: float) -> int | None:
    """The largest rank sum whose probability to be reached from below is at most `tail`.

    Each of the ranks 1 to `count` is in the sum or not with the same chance.
    """
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):
        ways[rank:] = (ways[rank:] + ways[:-rank]) / 2
        ways[:rank] /= 2
    reached = int(np.searchsorted(np.cumsum(ways), tail, side="right"))
    # The sum `reached - 1` is still rare enough; ranks are counted from nought.
    return reached - 1 if reached else None
