"""Waiting for another thread or process, with a limit that only a hang reaches."""

import time
from collections.abc import Callable

SECONDS = 600.0
"""Longest wait of a test: on a machine however busy, nothing that works takes so long."""


def eventually(condition: Callable[[], bool], what: str = "it never happened") -> None:
    """Return once `condition` holds. Raises AssertionError that says `what` where it never does."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
