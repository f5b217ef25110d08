"""Whose the processors were while we measured."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

BUSY_FIELDS = slice(0, 3)
"""user, nice and system, which come first in /proc/stat; idle time follows."""
INTERRUPT_FIELDS = slice(5, 8)
"""Interrupts, and what a hypervisor gave to others."""


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """A moment: seconds of processor time that were spent until then."""

    all_seconds: float
    """By every process of the machine, stolen time included."""
    own_seconds: float
    """By this process and by its children that have ended."""
    clock_seconds: float
    processors: int

    @classmethod
    def now(cls) -> "ProcessorTime":
        """This moment."""
        first_line = Path("/proc/stat").read_text().partition("\n")[0]
        ticks = [int(field) for field in first_line.split()[1:]]
        busy = sum(ticks[BUSY_FIELDS]) + sum(ticks[INTERRUPT_FIELDS])
        own = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        usages = [resource.getrusage(who) for who in own]
        return cls(
            all_seconds=busy / os.sysconf("SC_CLK_TCK"),
            own_seconds=sum(usage.ru_utime + usage.ru_stime for usage in usages),
            clock_seconds=time.monotonic(),
            processors=os.cpu_count() or 1,
        )

    def others_share_since(self, earlier: "ProcessorTime") -> float:
        """Share of all processors, 0 to 1, that went to processes that are not ours."""
        others = (self.all_seconds - earlier.all_seconds) - (self.own_seconds - earlier.own_seconds)
        elapsed = (self.clock_seconds - earlier.clock_seconds) * self.processors
        return min(max(others / elapsed, 0.0), 1.0)
