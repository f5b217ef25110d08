"""Limits the number of generation requests that are answered at once."""

import threading

from runtime.errors import QueueFull
from runtime.settings import Settings

MAX_RESERVED_THREADS = 16
MAX_DERIVED_CONNECTIONS = 1024
"""More only if --max-connections asks for them: each costs a thread from the start."""


def answered_at_once(settings: Settings) -> int:
    """Requests that a server answers at once, of whatever kind.

    Where it is not set, as many as the engine computes and lets wait, and the reserved ones.
    """
    if settings.max_connections:
        return settings.max_connections
    wanted = settings.max_batch_size + settings.max_queue_length + MAX_RESERVED_THREADS
    return min(wanted, MAX_DERIVED_CONNECTIONS)


def reserved_threads(connections: int) -> int:
    """Threads kept for /health, /metrics and the like while every generation slot is busy."""
    return min(MAX_RESERVED_THREADS, max(1, connections // 4))


class GenerationSlots:
    """Counts the generation requests that are being answered. Any thread may call any method."""

    def __init__(self, count: int, setting: str = "--max-connections") -> None:
        """`setting` is the one at its limit."""
        self._count = count
        self.setting = setting
        self._in_use = 0
        self._lock = threading.Lock()

    @classmethod
    def of_server(cls, settings: Settings) -> "GenerationSlots":
        """Slots of a server: all that it answers at once but the reserved ones."""
        connections = answered_at_once(settings)
        is_derived = not settings.max_connections and connections < MAX_DERIVED_CONNECTIONS
        return cls(
            max(1, connections - reserved_threads(connections)),
            "--max-queue-length" if is_derived else "--max-connections",
        )

    @property
    def count(self) -> int:
        """Slots there are."""
        return self._count

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._in_use

    def acquire(self) -> bool:
        """Take a slot, at once or not at all."""
        with self._lock:
            if self._in_use == self._count:
                return False
            self._in_use += 1
            return True

    def take(self) -> None:
        """Take a slot. Raises QueueFull if there is none."""
        if not self.acquire():
            raise QueueFull(
                f"all {self.count} generation requests that this server answers at once are busy, "
                f"which is all that {self.setting} allows; try again later"
            )

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._in_use -= 1
