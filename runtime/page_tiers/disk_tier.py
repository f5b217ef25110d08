"""Pages in files that the processes of a host share and that outlive them.

A file is named by what its page holds, so whoever writes it writes the same bytes, and one rename
makes it visible whole. `used` counts the bytes of all files, of every model; who writes holds the
lock of the folder, and deletes the least recently used files when the bound is reached. A reader
needs no lock: what is deleted under it stays open. A file's time of change is its last use.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.files import (
    discard,
    empty_trash,
    expect_own_folder,
    locked,
    make_private_folder,
    open_at_once,
    remove_abandoned,
    replacing,
)
from runtime.page_tiers.page_file import decode, encode, file_bytes
from runtime.pages import PageHash

LOCK_NAME = "lock"
COUNT_NAME = "used"
TRASH_NAME = "trash"
SUFFIX = ".page"
SLACK = 16
"""A sixteenth of the bound is freed at once, so that few writes list the folder."""


class DiskTier:
    """The page files of one model, below a folder for all. Owned by the background thread.

    Every method raises OSError where the disk fails, but not for what other processes do there.
    What other users could have written is neither read nor written: PermissionError.
    """

    def __init__(self, folder: Path, identity: bytes, page_bytes: int, most_bytes: int) -> None:
        """most_bytes: of the files of all models together."""
        self._folder = folder
        self._identity = identity
        self._own = folder / identity.hex()
        self._file_bytes = file_bytes(page_bytes)
        self._most_bytes = most_bytes
        self.damaged = 0
        """Number of files that were deleted because they did not hold the page of their name."""

    def read(self, page_hash: PageHash) -> NDArray[np.uint8] | None:
        """Return the content of a page, uint8; None if it is not there, or damaged."""
        path = self._path(page_hash)
        try:
            expect_own_folder(self._folder)
            stored = self._stored(path)
        except FileNotFoundError:
            return None
        content = None if stored is None else decode(self._identity, page_hash, stored)
        if content is None:
            self.damaged += 1
            path.unlink(missing_ok=True)
        return content

    def write(self, page_hash: PageHash, content: NDArray[np.uint8]) -> bool:
        """Write a page unless it is there; return whether it was written."""
        path = self._path(page_hash)
        if self._file_bytes > self._most_bytes:
            return False
        # Prompts can be guessed from keys and values.
        make_private_folder(self._folder)
        if self.touch((page_hash,)):
            return False
        with locked(self._folder / LOCK_NAME):
            used = self._used()
            if used is None or used + self._file_bytes > self._most_bytes:
                used = self._make_room()
            # Counted first: killed in between, the count is too high until the next listing.
            (self._folder / COUNT_NAME).write_text(str(used + self._file_bytes), "ascii")
            make_private_folder(self._own)
            with replacing(path, synced=False) as file:
                for part in encode(self._identity, page_hash, content):
                    file.write(part)
                file.flush()
                _mark_used(file.fileno())
        return True

    def touch(self, hashes: Iterable[PageHash]) -> int:
        """Note that pages were used now, in this order; return the number of those that are there.

        The last is deleted last.
        """
        found = 0
        for page_hash in hashes:
            with suppress(FileNotFoundError, PermissionError):
                _mark_used(self._path(page_hash))
                found += 1
        return found

    def delete(self, page_hash: PageHash) -> None:
        """Delete a page, where it is there."""
        self._path(page_hash).unlink(missing_ok=True)

    def delete_all(self) -> None:
        """Delete all pages of the model, which other processes may have written as well."""
        with suppress(FileNotFoundError), locked(self._folder / LOCK_NAME, make_folder=False):
            (self._folder / COUNT_NAME).unlink(missing_ok=True)
            # Out of sight at once: the process may end before they are deleted.
            discard(self._own, self._folder / TRASH_NAME)

    def _path(self, page_hash: PageHash) -> Path:
        name = page_hash.hex()
        return self._own / name[:2] / f"{name}{SUFFIX}"

    def _stored(self, path: Path) -> NDArray[np.uint8] | None:
        """Return the bytes of a page's file; None if it has another size or is no file."""
        with open(path, "rb", buffering=0, opener=open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size != self._file_bytes:
                return None
            stored = np.empty(self._file_bytes, np.uint8)
            read = 0
            while count := file.readinto(stored[read:].data):
                read += count
        return stored if read == self._file_bytes else None

    def _used(self) -> int | None:
        """Return the bytes of all files as they were counted; None without a count."""
        try:
            used = int((self._folder / COUNT_NAME).read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return used if used >= 0 else None

    def _make_room(self) -> int:
        """Delete the least recently used files until one more fits; return the bytes of the others.

        Also deletes what killed processes left. Called under the lock.
        """
        empty_trash(self._folder / TRASH_NAME)
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        room = max(self._file_bytes, self._most_bytes // SLACK)
        if used + self._file_bytes <= self._most_bytes:
            return used
        for _, size, path in files:
            if used + room <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            used -= size
        for folder in (*self._folder.glob("*/*/"), *self._folder.glob("*/")):
            with suppress(OSError):  # it has files
                folder.rmdir()
        return used

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Iterate over the files of all models: last use, size and path."""
        for folder in self._folder.glob("*/*/"):
            remove_abandoned(folder)
            for path in folder.glob(f"*{SUFFIX}"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield status.st_mtime_ns, status.st_size, path


def _mark_used(file: int | Path) -> None:
    """Set a file's time of change to now, finer than the system's own clock of files."""
    now = time.time_ns()  # noqa: TID251
    os.utime(file, ns=(now, now))
