"""Whether one figure has shifted for good in a row of nights. Pure functions.

Every night since the last acceptance is looked at anew each time, with every night as the one
since which it may be worse. So a night that was called good by luck hides nothing later, and a
lasting shift grows more certain with each night. Values are logarithms, above others it is worse.
"""

from collections.abc import Iterator, Sequence
from math import hypot, log, sqrt

import msgspec

from pipelines.benchmark.intervals import Interval, middle

MIN_NIGHTS = 3
"""Nights before a shift that define what is normal."""
MAX_NIGHTS = 28
"""The newest nights that count on either side: four weeks."""
UNKNOWN_SPREAD = log(1.21) / 3
"""Standard deviation of nights that is assumed before any are known, as of a virtual machine."""
ASSUMED_NIGHTS = 4
"""Known nights that the assumption weighs as much as."""
SPREADS = 3.75
"""Standard errors within chance; three would be too few for this many figures and nights."""
RETURNED = 0.5
"""A night nearer to the nights before than this share of the shift is as usual again."""


class Shift(msgspec.Struct, frozen=True):
    """The newest nights against those before. Immutable."""

    before: float
    """The middle of the nights before."""
    size: Interval
    """The difference of the newest nights to those before; the interval is of their own noise."""
    allowed: float
    """Allowed shift: the figure's own limit, or that of chance, whichever is larger."""
    nights: int
    """Number of the newest nights."""

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval is beyond what is allowed."""
        return self.size.low > self.allowed


def shift(nights: Sequence[Interval], limit: float) -> Shift | None:
    """Return the most certain lasting shift for the worse, else the last night against all before.

    `nights` are oldest first. None with fewer than MIN_NIGHTS before the last.
    """
    if len(nights) <= MIN_NIGHTS:
        return None
    lasting = list(_lasting(nights, limit))
    if not lasting:
        return _at(nights, len(nights) - 1, limit)
    return max(lasting, key=lambda each: each.size.low - each.allowed)


def _lasting(nights: Sequence[Interval], limit: float) -> Iterator[Shift]:
    """Yield each shift for the worse from which the last night has not recovered."""
    last = nights[-1].estimate
    for first in range(MIN_NIGHTS, len(nights)):
        found = _at(nights, first, limit)
        if found.is_worse and last - found.before > RETURNED * found.size.estimate:
            yield found


def _at(nights: Sequence[Interval], first: int, limit: float) -> Shift:
    """The nights from `first` on against those before."""
    before = [night.estimate for night in nights[:first][-MAX_NIGHTS:]]
    newest = nights[first:][-MAX_NIGHTS:]
    after = [night.estimate for night in newest]
    usual, now = middle(before), middle(after)
    squares = sum((value - usual) ** 2 for value in before)
    squares += sum((value - now) ** 2 for value in after)
    known = len(before) + len(after) - 2
    variance = (ASSUMED_NIGHTS * UNKNOWN_SPREAD**2 + squares) / (ASSUMED_NIGHTS + known)
    chance = SPREADS * sqrt(variance * (1 / len(before) + 1 / len(after)))
    reach = hypot(*(night.high - night.estimate for night in newest)) / len(newest)
    size = now - usual
    return Shift(
        before=usual,
        size=Interval(size, size - reach, size + reach),
        allowed=max(limit, chance),
        nights=len(nights) - first,
    )
