"""The time of a step, as a function of its tokens, its logits and its context."""

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from runtime.plan import StepPlan

NS_PER_MS = 1_000_000


class Line(msgspec.Struct, frozen=True):
    """A function of a count, straight between its points and beyond the last of them."""

    counts: tuple[int, ...]
    """At least two, ascending."""
    ms: tuple[float, ...]

    def __call__(self, count: int) -> float:
        """Milliseconds for a count."""
        right = min(max(bisect_right(self.counts, count), 1), len(self.counts) - 1)
        before, after = self.counts[right - 1], self.counts[right]
        slope = (self.ms[right] - self.ms[right - 1]) / (after - before)
        return self.ms[right - 1] + slope * (count - before)


class Work(msgspec.Struct, frozen=True):
    """What a step computes, in the counts that its time depends on."""

    tokens: int
    logits: int
    """Rows of logits: one for each request that gets a token."""
    pairs: int
    """Pairs of a token and a token that it attends to."""
    positions: int
    """Tokens whose keys and values are read, summed over the requests."""

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int]]) -> "Work":
        """Return the work of rows, each with its first position, its tokens and its logits."""
        tokens = logits = pairs = positions = 0
        for start, count, needed in rows:  # one loop: each step of a simulation comes here
            tokens += count
            logits += needed
            pairs += count * start + count * (count + 1) // 2
            positions += start + count
        return cls(tokens, logits, pairs, positions)


class StepTimes(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model of the time of a step: the sum of four parts, and the engine around it."""

    tokens: Line
    """Milliseconds of a step of so many tokens, with one row of logits and no context."""
    logits: Line
    """Milliseconds that further rows of logits add."""
    ns_per_pair: float
    ns_per_position: float
    engine_ms: float
    """Milliseconds from the end of the model's step to the next: scheduler, sampling, queues."""
    engine_ms_per_row: float

    def model_ns(self, work: Work) -> int:
        """Nanoseconds that the model computes."""
        ms = self.tokens(work.tokens) + self.logits(work.logits)
        context = self.ns_per_pair * work.pairs + self.ns_per_position * work.positions
        return round(NS_PER_MS * ms + context)

    def engine_ns(self, rows: int) -> int:
        """Nanoseconds of the engine in a step of this many rows."""
        return round(NS_PER_MS * (self.engine_ms + rows * self.engine_ms_per_row))


def work_of(plan: StepPlan) -> Work:
    """Return the work of a planned step without drafts."""
    return Work.of([(row.start, row.count, row.logits) for row in plan.rows])
