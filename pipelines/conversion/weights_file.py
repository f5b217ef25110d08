"""The GGUF inside a prepared folder: a file of its own where that costs nothing, else a link."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

from runtime.checksums import CHECKSUMS_NAME
from runtime.errors import PreparationError
from runtime.manifest import GRAPH_NAME, MANIFEST_NAME, StoredAs
from runtime.settings import WeightsCopy

FICLONE = 0x40049409
"""The request to share another file's blocks; what is written later is written elsewhere."""
OTHER_FILES = (MANIFEST_NAME, GRAPH_NAME, CHECKSUMS_NAME)
READ_ONLY = 0o444


def store(path: Path, folder: Path, how: WeightsCopy) -> StoredAs:
    """Put the GGUF into a folder that is being prepared, under its own name, and say as what.

    auto: a reflink where the file system has them, else a hard link; link: a hard link; copy: a
    reflink, else a copy. Where a link cannot be made, from another file system or of another user's
    file, the file stays where it is. Raises PreparationError where there is no room for a copy, and
    OSError.
    """
    placed = folder / path.name
    if path.name in OTHER_FILES:
        return "outside"
    if how != "link" and _reflink(path, placed):
        return "reflink"
    if how == "copy":
        _copy(path, placed)
        return "copy"
    try:
        os.link(path, placed)
    except OSError:
        return "outside"
    return "link"


def _reflink(path: Path, placed: Path) -> bool:
    """Whether `placed` now has the same blocks as `path`, and its time."""
    with path.open("rb") as source, placed.open("xb") as target:
        try:
            fcntl.ioctl(target, FICLONE, source.fileno())
        except OSError:
            placed.unlink()
            return False
        _seal(source.fileno(), placed)
    return True


def _copy(path: Path, placed: Path) -> None:
    size, free = path.stat().st_size, shutil.disk_usage(placed.parent).free
    full = PreparationError(
        f"{path} cannot be copied to {placed.parent}: it has {size >> 20} MiB and "
        f"{free >> 20} MiB are free; make room, or use --weights-copy link"
    )
    if size > free:
        raise full
    try:
        shutil.copyfile(path, placed)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise full from None
        raise
    with path.open("rb") as source:
        _seal(source.fileno(), placed)


def _seal(source: int, placed: Path) -> None:
    """Give our own file the time of what it was made of, by which it is known, and no writer."""
    status = os.fstat(source)
    os.utime(placed, ns=(status.st_atime_ns, status.st_mtime_ns))
    placed.chmod(READ_ONLY)
