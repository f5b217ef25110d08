"""A file of weights that is mapped, never copied, and what it was when it was mapped."""

import contextlib
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import Checksums

MAX_LOOKS = 5
"""How often a file is read anew that is written to while it is read."""


class FileState(NamedTuple):
    """What the system says of a file; who writes to it changes this before its content."""

    size: int
    """Bytes."""
    modified_ns: int
    changed_ns: int
    """Of the content or of anything about the file, links to it included. Nobody can set it."""

    @classmethod
    def of(cls, file: BinaryIO) -> "FileState":
        """The state of an open file at this moment."""
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(slots=True, eq=False)
class MappedFile:
    """A read-only map of a whole file, which is kept open.

    The map is immutable as long as nobody writes to the file. Whoever calls `differs` owns `state`.
    """

    path: Path
    file: BinaryIO
    mapping: mmap.mmap
    data: NDArray[np.uint8]
    """The content, [size]."""
    state: FileState
    """Of when it was opened, or last looked at closely."""
    checksums: Checksums | None = None

    @classmethod
    def open(cls, path: Path) -> "MappedFile":
        """Map a file. Raises OSError, and ValueError for an empty one."""
        file = path.open("rb")
        try:
            state = FileState.of(file)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            file.close()
            raise
        return cls(path, file, mapping, np.frombuffer(mapping, np.uint8), state)

    @property
    def content(self) -> NDArray[np.uint8]:
        """What the checksums are of: all, or all but the checksums themselves."""
        return self.data if self.checksums is None else self.data[: self.checksums.size]

    def is_untouched(self) -> bool:
        """Whether nothing has happened to the file since `state`. Costs a microsecond."""
        return FileState.of(self.file) == self.state

    def damage(self) -> str | None:
        """What has become of the content since `state`, in words; None where it is the same.

        Where only links or permissions changed, parts of it are looked at, else all. Then `state`
        is that of now.
        """
        for _ in range(MAX_LOOKS):
            now = FileState.of(self.file)
            if now == self.state:
                return None
            if now.size != self.state.size:
                return f"has {now.size} bytes instead of {self.state.size}"
            was_written = now.modified_ns != self.state.modified_ns
            if self.checksums is None:
                if was_written:
                    return "has been written to"
            else:
                chunks = None if was_written else self.checksums.spread()
                if (place := self.checksums.damaged(self.content, chunks)) is not None:
                    return f"has changed at byte {place} or behind"
            self.state = now
        return "is being written to"

    def first_damage(self) -> int | None:
        """Place in bytes of the first mebibyte that is not as it was written; None if none."""
        return None if self.checksums is None else self.checksums.damaged(self.content)

    def close(self) -> None:
        """Close the file; the map goes when nobody uses `data` any more."""
        self.file.close()

    def use_large_pages(self) -> None:
        """Let the system hold the file in large pages where it has any for files.

        Weights that are read from end to end in small pages wait for the table of pages: a tenth to
        a fifth of what memory could give.
        """
        with contextlib.suppress(OSError):  # a kernel without large pages
            self.mapping.madvise(mmap.MADV_HUGEPAGE)
