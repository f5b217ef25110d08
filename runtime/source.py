"""A model that is looked up, converted and published: opened, parsed and hashed once."""

import hashlib
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from io import BufferedReader
from pathlib import Path

import msgspec

from runtime.checksums import read_through
from runtime.errors import PreparationError
from runtime.gguf import GGUFFile, mapped, open_gguf, pieces_of
from runtime.mapped_file import FileState
from runtime.progress import Amount, uncounted

MAX_KNOWN = 256
"""Files whose content is remembered."""


class Content(msgspec.Struct, frozen=True):
    """The content of a file in one state. Immutable; can be sent to another process."""

    state: FileState
    sha256: str
    """In hexadecimal."""
    checksums: bytes
    """As `Checksums.encode` writes them."""


_known: dict[FileState, Content] = {}
_lock = threading.Lock()


class SourceFile:
    """One file in the state in which it was first looked at. Owned by one thread.

    It is opened when that is needed, once; its content is read once for each state of a file in a
    process.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file, without opening it. Raises OSError."""
        self.path = path.resolve()
        """Path of the file itself: a link of a model cache leads to a blob of another name."""
        self.state = FileState.at(self.path)

    @cached_property
    def file(self) -> BufferedReader:
        """The open file. Raises GGUFError."""
        file = open_gguf(self.path)
        weakref.finalize(self, file.close)
        return file

    @property
    def known_content(self) -> Content | None:
        """The content, if this process has read or received it."""
        with _lock:
            return _known.get(self.state)

    @property
    def content(self) -> Content:
        """The content, read where it is not known. Raises GGUFError, OSError, PreparationError."""
        return self.read()

    def read(self, amount: Amount = uncounted) -> Content:
        """`content`, with the bytes that are read."""
        content = self.known_content
        if content is None:
            self.file.seek(0)
            sha256, checksums = read_through(self.file, amount)
            self.expect_unchanged()
            content = Content(self.state, sha256, checksums.encode())
            remember(content)
        return content

    def expect_unchanged(self) -> None:
        """Raise PreparationError if the file is another one or was written to since it was seen."""
        if not FileState.at(self.path).is_same_content(self.state):
            raise PreparationError(
                f"{self.path} is still being written; prepare it when it is complete"
            )


class Source:
    """A model of one GGUF file or of several pieces, parsed once. Owned by one thread."""

    def __init__(self, path: Path) -> None:
        """Look at the files, without opening them. Raises OSError, and GGUFError for pieces."""
        self.path = path
        """As it was given, of the first piece: models are named by it."""
        self.files = tuple(map(SourceFile, pieces_of(path)))

    @property
    def file_path(self) -> Path:
        """Path of the file itself, or of the first piece."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.state.size for file in self.files)

    @cached_property
    def gguf(self) -> GGUFFile:
        """The parsed model. Raises GGUFError."""
        return GGUFFile([(file.path, mapped(file.path, file.file)) for file in self.files])

    @property
    def known_contents(self) -> tuple[Content, ...]:
        """The contents of those files that this process has read or received."""
        return tuple(filter(None, (file.known_content for file in self.files)))

    def read(self, amount: Amount = uncounted) -> None:
        """Read the files whose contents are not known. Raises as `SourceFile.content`."""
        before = 0
        for file in self.files:
            file.read(self._of_all(amount, before))
            before += file.state.size

    def _of_all(self, amount: Amount, before: int) -> Amount:
        """Count the bytes of a file after those of the files before it."""
        return lambda done, _: amount(before + done, self.size)

    @property
    def sha256(self) -> str:
        """Identity of the content of all files. Raises as `SourceFile.content`."""
        return joint_sha256([file.content.sha256 for file in self.files])

    def expect_unchanged(self) -> None:
        """Raise PreparationError if a file was written to since it was seen."""
        for file in self.files:
            file.expect_unchanged()


def joint_sha256(pieces: Sequence[str]) -> str:
    """Return the hash of all pieces: of a single file its own, else a hash of their hashes."""
    if len(pieces) == 1:
        return pieces[0]
    return hashlib.sha256("".join(f"{each}\n" for each in pieces).encode()).hexdigest()


def remember(content: Content) -> None:
    """Make a content known to this process."""
    with _lock:
        while len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[content.state] = content
