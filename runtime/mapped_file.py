"""A weights file that is mapped, never copied, and its state when it was mapped."""

import contextlib
import mmap
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import Checksums

MAX_LOOKS = 5
"""Number of attempts to read a file that is written to meanwhile."""


class FileState(NamedTuple):
    """A file's size and times from the system; a write changes them before the content."""

    device: int
    inode: int
    size: int
    """Bytes."""
    modified_ns: int
    changed_ns: int
    """Time of the last change of the content or of any attribute, links included; not settable."""

    @classmethod
    def of(cls, file: BinaryIO) -> "FileState":
        """Return the current state of an open file."""
        return cls._from(os.fstat(file.fileno()))

    @classmethod
    def at(cls, path: Path) -> "FileState":
        """Return the current state of the file at a path. Raises OSError."""
        return cls._from(path.stat())

    @classmethod
    def _from(cls, status: os.stat_result) -> "FileState":
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def is_same_content(self, other: "FileState") -> bool:
        """Whether it is the same file, not written to; the number of its links may have changed."""
        return self[:-1] == other[:-1]


@dataclass(slots=True, eq=False)
class MappedFile:
    """A read-only map of a whole file, which is kept open.

    The map is immutable while the file is not written to. The caller of `differs` owns `state`.
    """

    path: Path
    file: BufferedReader
    mapping: mmap.mmap
    data: NDArray[np.uint8]
    """The content, [size]."""
    state: FileState
    """State when it was opened or last compared."""
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
        """The bytes covered by the checksums: all, except checksums in the file itself."""
        return self.data if self.checksums is None else self.data[: self.checksums.size]

    def is_untouched(self) -> bool:
        """Whether the file is unchanged since `state`. Costs a microsecond.

        Compares what a write changes: an open file keeps its device and number.
        """
        now, then = os.fstat(self.file.fileno()), self.state
        return (
            now.st_ctime_ns == then.changed_ns
            and now.st_mtime_ns == then.modified_ns
            and now.st_size == then.size
        )

    def damage(self) -> str | None:
        """Describe how the content has changed since `state`; None if it is the same.

        If only links or permissions changed, parts of it are compared, else all. Then `state`
        becomes the current one.
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
        """Return the offset of the first changed mebibyte, or None."""
        return None if self.checksums is None else self.checksums.damaged(self.content)

    def close(self) -> None:
        """Close the file; the map is freed with the last reference to `data`."""
        self.file.close()

    def use_large_pages(self) -> None:
        """Let the system keep the file in large pages if it supports them for files.

        Reading weights through small pages waits for the page table, which costs a tenth to a fifth
        of the memory bandwidth.
        """
        with contextlib.suppress(OSError):  # a kernel without large pages
            self.mapping.madvise(mmap.MADV_HUGEPAGE)
