"""Counters of the engine, always consistent with each other."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TypeVar

from runtime.generation import FinishReason

WINDOW_SECONDS = 10.0
KIND_OF_END = {FinishReason.FAILED: "failed", FinishReason.CANCELLED: "cancelled"}


@dataclass(slots=True)
class SchedulerCounts:
    """What a scheduler has counted since its start. Owned by its thread."""

    preemptions: int = 0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    drafted_tokens: int = 0
    accepted_draft_tokens: int = 0


@dataclass(slots=True)
class PageTierCounts:
    """What the tiers beyond the page pool have counted. Owned by the engine thread."""

    ram_bytes: int = 0
    """Bytes of the pages in RAM now."""
    ram_hit_pages: int = 0
    ram_dropped_pages: int = 0
    """Pages that made room for others."""
    disk_hit_pages: int = 0
    disk_written_bytes: int = 0
    disk_dropped_pages: int = 0
    """Pages that were not written because too many were waiting."""
    disk_damaged_pages: int = 0
    prompts_handed_over: int = 0
    """Prompts that another process has computed for this one."""
    uncopied_pages: int = 0
    """Pages that left the pool with so many others that copying them would have taken too long."""
    copied_bytes: int = 0
    """Bytes that the engine thread has copied from the pool, in `copy_seconds`."""
    copy_seconds: float = 0.0
    restored_bytes: int = 0
    """Bytes that it has copied into the pool, in `restore_seconds`."""
    restore_seconds: float = 0.0

    def __add__(self, other: "PageTierCounts") -> "PageTierCounts":
        """Return the sums of two engines."""
        return _sums(self, other)


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot. started = completed + failed + cancelled + active + queued. Immutable."""

    started: int
    completed: int
    failed: int
    cancelled: int
    active: int
    queued: int
    tokens_generated: int
    tokens_per_second: float
    """Over the last 10 seconds; 0 when idle."""
    pages_used: int
    pages_total: int
    active_sequences: int
    preemptions: int
    prefix_queried_tokens: int
    """Tokens that were looked for in the prefix cache, of which `prefix_hit_tokens` were found."""
    prefix_hit_tokens: int
    drafted_tokens: int
    """Tokens that were guessed, of which `accepted_draft_tokens` were the model's own choice."""
    accepted_draft_tokens: int
    steps: int
    tiers: PageTierCounts = field(default_factory=PageTierCounts)

    @property
    def cache_usage(self) -> float:
        """Share of the pages that requests hold, 0 to 1; 0 where there are none."""
        return self.pages_used / self.pages_total if self.pages_total else 0.0

    @property
    def pages_free(self) -> int:
        """Number of pages that could be allocated now."""
        return self.pages_total - self.pages_used

    def __add__(self, other: "EngineStatistics") -> "EngineStatistics":
        """Return the sums of two engines."""
        return _sums(self, other)

    def of_the_past(self) -> "EngineStatistics":
        """Return the counts of an engine that has stopped: no rate and no pages."""
        tiers = replace(self.tiers, ram_bytes=0)
        return replace(self, tokens_per_second=0.0, pages_used=0, pages_total=0, tiers=tiers)


Counts = TypeVar("Counts", PageTierCounts, EngineStatistics)


def _sums(one: Counts, other: Counts) -> Counts:
    """Return the sum of each field."""
    names = [each.name for each in fields(one)]
    return type(one)(**{name: getattr(one, name) + getattr(other, name) for name in names})


class StatisticsRecorder:
    """Counts of a running engine. Any thread may call any method; one lock keeps sums right."""

    def __init__(
        self, pages_total: int, tier_counts: Callable[[], PageTierCounts] = PageTierCounts
    ) -> None:
        self._tier_counts = tier_counts
        self._lock = threading.Lock()
        self._pages_total = pages_total
        self._pages_used = 0
        self._started = 0
        self._ended = {"completed": 0, "failed": 0, "cancelled": 0}
        self._active = 0
        self._tokens = 0
        self._steps = 0
        self._counted = SchedulerCounts()
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def unfinished(self) -> int:
        """Number of waiting or running requests, including those the engine has not seen yet."""
        with self._lock:
            return self._live

    def request_submitted(self) -> None:
        """Count a request as started and queued."""
        with self._lock:
            self._started += 1

    def step_done(self, count: int) -> None:
        """Count a step and the tokens it generated."""
        now = time.monotonic()
        with self._lock:
            self._steps += 1
            self._tokens += count
            self._recent.append((now, count))
            self._drop_old(now)

    def update(
        self,
        *,
        ended: FinishReason | None = None,
        active: int,
        pages_used: int,
        counted: SchedulerCounts,
    ) -> None:
        """Record the scheduler's state after a change and, if a request ended, its end."""
        with self._lock:
            if ended is not None:
                self._ended[KIND_OF_END.get(ended, "completed")] += 1
            self._active = active
            self._pages_used = pages_used
            self._counted = replace(counted)

    def snapshot(self) -> EngineStatistics:
        """Return all counts at one moment."""
        now = time.monotonic()
        with self._lock:
            self._drop_old(now)
            return EngineStatistics(
                started=self._started,
                completed=self._ended["completed"],
                failed=self._ended["failed"],
                cancelled=self._ended["cancelled"],
                active=self._active,
                queued=self._live - self._active,
                tokens_generated=self._tokens,
                tokens_per_second=sum(count for _, count in self._recent) / WINDOW_SECONDS,
                pages_used=self._pages_used,
                pages_total=self._pages_total,
                active_sequences=self._active,
                steps=self._steps,
                tiers=self._tier_counts(),
                **asdict(self._counted),
            )

    @property
    def _live(self) -> int:
        return self._started - sum(self._ended.values())

    def _drop_old(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - WINDOW_SECONDS:
            self._recent.popleft()
