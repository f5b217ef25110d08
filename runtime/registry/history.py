"""Which versions of a model were current, so that a rollback goes back to the one before.

It stands in a file beside `current`. `current` itself decides: the file is written first, so a stop
in between leaves it ahead by one step, which `until` takes away.
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
    """The newest last. Going back to a version forgets what came after it."""
    newest: int = 0
    """The highest number that was ever current: none is given twice."""

    def until(self, version: int) -> "History":
        """The history that ends with a version: cut after it, or with it as the newest."""
        newest = max(self.newest, version)
        if version in self.versions:
            return History(self.versions[: self.versions.index(version) + 1], newest)
        return History((*self.versions, version)[-MAX_ENTRIES:], newest)

    def write(self, home: Path) -> None:
        """Write it into a model's folder. Raises OSError."""
        write_whole(home / HISTORY_NAME, finite_json(self))


def read_history(home: Path) -> History | None:
    """The history in a model's folder; None where there is none that can be read."""
    try:
        return msgspec.json.decode(read_file(home / HISTORY_NAME, MAX_BYTES), type=History)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
