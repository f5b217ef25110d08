"""Ends child processes with the process that started them, and cleanly on SIGTERM."""

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: signal.Signals = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Make Linux send this process a signal when the thread that started it ends; see prctl(2).

    Called by the child itself, also between fork and exec. parent: its parent's process id, where
    that may have ended before this call; the signal then comes at once.
    """
    _libc.prctl(PR_SET_PDEATHSIG, int(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def leave_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit in the main thread, so that clean-up code runs.

    Call it there.
    """
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
