"""The versions of a model that were current, in order, for rollbacks.

Stored in a file next to `current`, which is authoritative: the file is written first, so a crash
in between leaves it one step ahead, which `until` removes.
"""

from pathlib import Path

import msgspec

from runtime.files import read_file, write_whole
from runtime.finite_json import finite_json

HISTORY_NAME = "history.json"
MAX_ENTRIES = 1000
MAX_BYTES = 1 << 20


class History(msgspec.Struct, frozen=True):
    """The versions that were current, as a stack. Immutable."""

    versions: tuple[int, ...] = ()
    """The newest last. Going back to a version drops those after it."""
    newest: int = 0
    """The highest number that was ever current; numbers are never reused."""

    def until(self, version: int) -> "History":
        """Return the history that ends with a version: cut after it, or with it appended."""
        newest = max(self.newest, version)
        if version in self.versions:
            return History(self.versions[: self.versions.index(version) + 1], newest)
        return History((*self.versions, version)[-MAX_ENTRIES:], newest)

    def write(self, home: Path) -> None:
        """Write it into a model's folder. Raises OSError."""
        write_whole(home / HISTORY_NAME, finite_json(self))


def read_history(home: Path) -> History | None:
    """Return the history in a model's folder; None if there is none or it is unreadable."""
    try:
        return msgspec.json.decode(read_file(home / HISTORY_NAME, MAX_BYTES), type=History)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
