"""Files that several processes share: locks, and files that appear whole or not at all.

Nothing here is named by a process id: two containers on one volume may have the same.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL_PREFIX = ".rocmforge-partial-"
"""What a file is called until it is whole. Its writer holds a lock on it."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a lock file, which is made where it is missing; waits for it.

    The system frees it when the process ends, however. The last thing that its holder does may be
    to delete the file or its folder: whoever waits then makes a new one.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:  # the folder was deleted in between
            continue
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, path):
                continue
            try:
                yield
            finally:
                # A child that was forked meanwhile has the file open too.
                fcntl.flock(file, fcntl.LOCK_UN)
            return


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, that takes the place of `path` when the block ends well.

    It is on disk before it is seen under that name. After an exception nothing has changed; what
    killed processes left in the folder is removed. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    file, partial = _new_partial(path.parent)
    with file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    sync(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by `content`, on disk before it is seen. Raises OSError."""
    with replacing(path) as file:
        file.write(content)


def remove_abandoned(folder: Path) -> None:
    """Delete the partial files of `replacing` in a folder whose writers are gone."""
    for partial in folder.glob(f"{PARTIAL_PREFIX}*"):
        with suppress(OSError), partial.open("rb") as file:
            # A living writer holds it; who has just made it and not yet locked it makes another.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, partial):
                partial.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_partial(folder: Path) -> tuple[BinaryIO, Path]:
    """A new locked file of a name that nobody else has, with the usual permissions."""
    while True:
        partial = folder / f"{PARTIAL_PREFIX}{secrets.token_hex(8)}"
        with suppress(FileExistsError):
            file = partial.open("xb")
            with suppress(OSError):  # a file system without locks: nobody cleans up there either
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, partial):
                return file, partial
            file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is still what its path names."""
    opened = os.fstat(file.fileno())
    try:
        named = path.stat()
    except OSError:
        return False
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
