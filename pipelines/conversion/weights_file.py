"""Places the GGUF into a prepared folder: as a reflink, a link or a copy."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

from runtime.checksums import CHECKSUMS_NAME
from runtime.errors import PreparationError
from runtime.manifest import GRAPH_NAME, MANIFEST_NAME, StoredAs
from runtime.settings import WeightsCopy
from runtime.source import Source

FICLONE = 0x40049409
"""The ioctl that shares another file's blocks, copied on write."""
OTHER_FILES = (MANIFEST_NAME, GRAPH_NAME, CHECKSUMS_NAME)
READ_ONLY = 0o444
COPIED_AT_ONCE = 8 << 20
"""Bytes."""


def store(source: Source, folder: Path, how: WeightsCopy) -> StoredAs:
    """Put the GGUF into a folder that is being prepared, under its own name, and say as what.

    auto: a reflink where the file system has them, else a hard link; link: a hard link; copy: a
    reflink, else a copy. Where a link cannot be made, from another file system or of another user's
    file, the file stays where it is. Raises PreparationError where there is no room for a copy, and
    OSError.
    """
    placed = folder / source.file_path.name
    if placed.name in OTHER_FILES:
        return "outside"
    if how != "link" and _reflink(source, placed):
        return "reflink"
    if how == "copy":
        _copy(source, placed)
        return "copy"
    try:
        os.link(source.file_path, placed)
    except OSError:
        return "outside"
    return "link"


def _reflink(source: Source, placed: Path) -> bool:
    """Whether `placed` now has the same blocks as the file, and its time."""
    with placed.open("xb") as target:
        try:
            fcntl.ioctl(target, FICLONE, source.file.fileno())
        except OSError:
            placed.unlink()
            return False
    _seal(source, placed)
    return True


def _copy(source: Source, placed: Path) -> None:
    size, free = source.state.size, shutil.disk_usage(placed.parent).free
    full = PreparationError(
        f"{source.file_path} cannot be copied to {placed.parent}: it has {size >> 20} MiB and "
        f"{free >> 20} MiB are free; make room, or use --weights-copy link"
    )
    if size > free:
        raise full
    try:
        with placed.open("xb") as target:
            source.file.seek(0)
            shutil.copyfileobj(source.file, target, COPIED_AT_ONCE)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise full from None
        raise
    _seal(source, placed)


def _seal(source: Source, placed: Path) -> None:
    """Give our own file the original's time, which identifies it, and make it read-only."""
    os.utime(placed, ns=(source.state.modified_ns, source.state.modified_ns))
    placed.chmod(READ_ONLY)
