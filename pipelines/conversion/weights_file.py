"""Places the GGUF's files into a prepared folder: as a reflink, a link or a copy."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from runtime.checksums import CHECKSUMS_NAME
from runtime.errors import PreparationError
from runtime.manifest import GRAPH_NAME, MANIFEST_NAME, StoredAs
from runtime.settings import WeightsCopy
from runtime.source import Source, SourceFile

FICLONE = 0x40049409
"""The ioctl that shares another file's blocks, copied on write."""
OTHER_FILES = (MANIFEST_NAME, GRAPH_NAME, CHECKSUMS_NAME)
READ_ONLY = 0o444
COPIED_AT_ONCE = 8 << 20
"""Bytes."""


def store(source: Source, folder: Path, how: WeightsCopy) -> StoredAs:
    """Put the GGUF's files into a folder that is being prepared, and say as what.

    They keep their names, and all are stored the same way. auto: a reflink where the file system
    has them, else a hard link; link: a hard link; copy: a reflink, else a copy. Where a link cannot
    be made, from another file system or of another user's file, the files stay where they are.
    Raises PreparationError where there is no room for a copy, and OSError.
    """
    if any(file.path.name in OTHER_FILES for file in source.files):
        return "outside"
    if how != "link" and _placed(source, folder, _reflink):
        return "reflink"
    if how == "copy":
        _expect_room(source, folder)
        _placed(source, folder, _copy)
        return "copy"
    return "link" if _placed(source, folder, _link) else "outside"


def _placed(source: Source, folder: Path, place: Callable[[SourceFile, Path], bool]) -> bool:
    """Whether all files are in the folder now; else none is."""
    done: list[Path] = []
    for file in source.files:
        placed = folder / file.path.name
        if not place(file, placed):
            for each in done:
                each.unlink()
            return False
        done.append(placed)
    return True


def _link(source: SourceFile, placed: Path) -> bool:
    """Whether `placed` is now a second name of the file."""
    try:
        os.link(source.path, placed)
    except OSError:
        return False
    return True


def _reflink(source: SourceFile, placed: Path) -> bool:
    """Whether `placed` now has the same blocks as the file, and its time."""
    with placed.open("xb") as target:
        try:
            fcntl.ioctl(target, FICLONE, source.file.fileno())
        except OSError:
            placed.unlink()
            return False
    _seal(source, placed)
    return True


def _copy(source: SourceFile, placed: Path) -> bool:
    """Copy the file. Raises PreparationError where there is no room."""
    try:
        with placed.open("xb") as target:
            source.file.seek(0)
            shutil.copyfileobj(source.file, target, COPIED_AT_ONCE)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(source.path, placed.parent, source.state.size) from None
        raise
    _seal(source, placed)
    return True


def _expect_room(source: Source, folder: Path) -> None:
    if source.size > shutil.disk_usage(folder).free:
        raise _full(source.file_path, folder, source.size)


def _full(path: Path, folder: Path, size: int) -> PreparationError:
    free = shutil.disk_usage(folder).free
    return PreparationError(
        f"{path} cannot be copied to {folder}: it has {size >> 20} MiB and {free >> 20} MiB are "
        "free; make room, or use --weights-copy link"
    )


def _seal(source: SourceFile, placed: Path) -> None:
    """Give our own file the original's time, which identifies it, and make it read-only."""
    os.utime(placed, ns=(source.state.modified_ns, source.state.modified_ns))
    placed.chmod(READ_ONLY)
