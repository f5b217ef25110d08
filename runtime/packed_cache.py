"""The folder of packed copies: room is made for a new one by deleting the least recently used.

A copy that a process maps has a shared lock and is never deleted here. When it was used last is in
its access time, which is set each time that it is mapped.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

KEPT_FREE = 256 << 20
"""Bytes that a new copy leaves free on the disk."""


def mark_used(file: BinaryIO) -> None:
    """Lock an open copy against deletion while it is open, and note that it was used now."""
    with suppress(OSError):  # another user's file, or a read-only file system
        fcntl.flock(file, fcntl.LOCK_SH)
        modified_ns = os.fstat(file.fileno()).st_mtime_ns
        os.utime(file.fileno(), ns=(time.time_ns(), modified_ns))  # noqa: TID251


def make_room(folder: Path, size: int, limit: int) -> None:
    """Delete unused copies until a new one fits.

    size: bytes of the new one; limit: of all copies together, 0 for none but the disk's.
    Raises OSError with both sizes if it cannot fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for oldest in [*_least_recently_used(folder), None]:
        used = sum(size_of(path) for path in folder.glob("*.packed"))
        free = shutil.disk_usage(folder).free
        fits_limit = not limit or used + size <= limit
        if fits_limit and size + KEPT_FREE <= free:
            return
        if oldest is not None:
            _delete_unused(oldest)
    why = f"{free >> 20} MiB are free" if fits_limit else f"--packed-bytes allows {limit >> 20} MiB"
    raise OSError(errno.ENOSPC, f"a packed copy takes {size >> 20} MiB, and {why}", str(folder))


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _least_recently_used(folder: Path) -> Iterator[Path]:
    found = []
    for path in folder.glob("*.packed"):
        with suppress(OSError):
            found.append((path.stat().st_atime_ns, path))
    return (path for _, path in sorted(found))


def _delete_unused(path: Path) -> None:
    """Delete a copy unless a process maps it."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
