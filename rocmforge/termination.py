"""SIGTERM as an exception, so that a command ends its children and removes partial files."""

import signal
import sys
from types import FrameType


def leave_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit in the main thread. Call it in that thread."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
