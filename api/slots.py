"""How many generation requests may be answered at once."""

import threading

MOST_RESERVED_THREADS = 16


def reserved_threads(max_connections: int) -> int:
    """Threads kept for /health, /metrics and the like while every generation slot is busy."""
    return min(MOST_RESERVED_THREADS, max(1, max_connections // 4))


class GenerationSlots:
    """Counts the generation requests that are being answered. Any thread may call any method."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._in_use = 0
        self._lock = threading.Lock()

    @classmethod
    def of_server(cls, max_connections: int) -> "GenerationSlots":
        """Slots of a server that answers so many requests at once: all but the reserved ones."""
        return cls(max(1, max_connections - reserved_threads(max_connections)))

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

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._in_use -= 1
