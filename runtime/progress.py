"""How far a step of a long task is: bytes, and the time that is left."""

import time
from collections.abc import Callable

import msgspec

Amount = Callable[[int, int], None]
"""Is called with the bytes done so far and those of the whole step."""


def uncounted(done: int, total: int) -> None:
    """Nobody is told."""


class StepReport(msgspec.Struct, frozen=True):
    """What a child process says: a step that begins, or the bytes of the current one. Immutable."""

    name: str = ""
    done: int = 0
    total: int = 0

    def tell(self, progress: Callable[[str], None], amount: Amount) -> None:
        """Call that of the two which it is for."""
        if self.name:
            progress(self.name)
        else:
            amount(self.done, self.total)


def reported(report: Callable[[StepReport], None]) -> tuple[Callable[[str], None], Amount]:
    """Return what, in a child process, reports the name of a step, and its bytes."""
    return (
        lambda name: report(StepReport(name)),
        lambda done, total: report(StepReport(done=done, total=total)),
    )


class Progress:
    """Describes how far steps are. Owned by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Begin another step."""
        self._began = self._clock()
        self._tenths = 0

    def words(self, done: int, total: int) -> str:
        """Return how far the step is: "1.2 of 4.7 GB, 20 s left"."""
        amount = f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
        if not 0 < done < total:
            return amount
        left = (self._clock() - self._began) * (total - done) / done
        return f"{amount}, {left:.0f} s left"

    def is_next_tenth(self, done: int, total: int) -> bool:
        """Whether another tenth of the step is done since the last True; the last does not count.

        For a log, which gets a line for each.
        """
        tenths = 10 * done // total if total else 0
        is_next = self._tenths < tenths < 10
        self._tenths = max(self._tenths, tenths)
        return is_next
