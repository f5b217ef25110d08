"""Files that several processes share: locks, and atomic writes.

No file is named by a process id: two containers on one volume may have the same.
"""

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL_PREFIX = ".rocmforge-partial-"
"""Prefix of a file that is being written. Its writer holds a lock on it."""


@contextmanager
def locked(path: Path, *, make_folder: bool = True) -> Iterator[None]:
    """Hold the exclusive lock of a lock file, creating it if missing; waits for it.

    The system releases it when the process ends, however. Its holder may delete the file or its
    folder at the end: a waiting process then creates a new one, or, without `make_folder`, gets
    FileNotFoundError. Raises OSError.
    """
    while True:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:
            if make_folder:  # the folder was deleted in the meantime
                continue
            raise
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


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user reads, unless it is there. Raises OSError.

    Raises PermissionError as `expect_own_folder` does.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    expect_own_folder(folder)


def expect_own_folder(folder: Path) -> None:
    """Raise PermissionError for a folder into which another user may have put something.

    It has to belong to this user or root, and not everyone may write to it. Raises OSError.
    """
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & stat.S_IWOTH:
        reason = "other users can write to it; name a folder below it, which is then made"
        raise PermissionError(errno.EPERM, reason, str(folder))


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file, open for writing, that replaces `path` when the block ends normally.

    It is synced before it gets that name, except for caches whose content is checked. After an
    exception nothing has changed; leftovers of killed processes in the folder are removed. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    file, partial = _new_partial(path.parent)
    with file:
        try:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    if synced:
        sync(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by `content`, synced before it is visible. Raises OSError."""
    with replacing(path) as file:
        file.write(content)


def remove_abandoned(folder: Path) -> None:
    """Delete the partial files of `replacing` in a folder whose writers are gone."""
    for partial in folder.glob(f"{PARTIAL_PREFIX}*"):
        with suppress(OSError), partial.open("rb") as file:
            # A living writer holds the lock; one that has not locked its file yet makes another.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, partial):
                partial.unlink()


def discard(folder: Path, trash: Path) -> None:
    """Delete a folder; for others it disappears at once, since it moves to `trash` first.

    trash: a folder of the same file system used for nothing else. Leftovers of killed processes
    in it are deleted too. Raises OSError if the folder cannot be moved; then it is unchanged.
    """
    while True:
        trash.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(trash / secrets.token_hex(8))
            break
        except FileNotFoundError:
            if not os.path.lexists(folder):
                return
            # Another process has just emptied the trash and removed it.
    sync(folder.parent)
    empty_trash(trash)


def empty_trash(trash: Path) -> None:
    """Delete what `discard` has moved to a folder, and that folder, as far as possible."""
    shutil.rmtree(trash, ignore_errors=True)


def is_file(path: Path) -> bool:
    """Whether a path names a file; False for text that cannot be a path."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # too long, a loop of links, a NUL
        return False


def read_file(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file. Raises OSError, also for a pipe or a larger file."""
    with open(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(most_bytes)


def open_at_once(path: str | Path, flags: int) -> int:
    """Return a descriptor; opening a pipe does not wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_partial(folder: Path) -> tuple[BinaryIO, Path]:
    """Return a new locked file with a unique name and the usual permissions."""
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
    """Whether an open file is still the one at this path."""
    opened = os.fstat(file.fileno())
    try:
        named = path.stat()
    except OSError:
        return False
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
