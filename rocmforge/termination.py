"""SIGTERM as an exception, so that what a command began is ended and tidied."""

import signal
import sys
from types import FrameType


def leave_on_sigterm() -> None:
    """Let SIGTERM raise SystemExit in the main thread. Call it there."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
