"""Turns on the processors that the engines of several models share."""

import threading
from collections import deque
from types import TracebackType


class Turns:
    """Lets one thread in at a time, in the order in which they came. Any thread may enter.

    A step has all processors, so that engines alternate step by step however many requests each
    of them has. A plain lock would often give the next turn to the thread that has just had one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    @property
    def waiting(self) -> int:
        """Number of threads that wait for their turn."""
        return len(self._waiting)

    def __enter__(self) -> None:
        """Wait until all that came before have had their turn."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the turn to the one that has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False
