"""A GGUF file that is looked up, converted and published: opened, parsed and hashed once."""

import threading
import weakref
from functools import cached_property
from io import BufferedReader
from pathlib import Path

import msgspec

from runtime.checksums import read_through
from runtime.errors import PreparationError
from runtime.gguf import GGUFFile, open_gguf
from runtime.mapped_file import FileState

MAX_KNOWN = 16
"""Files whose content is remembered."""


class Content(msgspec.Struct, frozen=True):
    """What a file in one state contains. Immutable; can be sent to another process."""

    state: FileState
    sha256: str
    """In hexadecimal."""
    checksums: bytes
    """As `Checksums.encode` writes them."""


_known: dict[FileState, Content] = {}
_lock = threading.Lock()


class Source:
    """A GGUF file in the state in which it was first looked at. Owned by one thread.

    It is opened and parsed when that is needed, once; its content is read once for each state of a
    file in a process.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file, without opening it. Raises OSError."""
        self.path = path
        """As it was given: models are named by it."""
        self.file_path = path.resolve()
        """Where the file itself is: a link of a model cache leads to a blob of another name."""
        self.state = FileState.at(self.file_path)

    @cached_property
    def file(self) -> BufferedReader:
        """The open file. Raises GGUFError."""
        file = open_gguf(self.file_path)
        weakref.finalize(self, file.close)
        return file

    @cached_property
    def gguf(self) -> GGUFFile:
        """The parsed file. Raises GGUFError."""
        return GGUFFile.of(self.file_path, self.file)

    @property
    def known_content(self) -> Content | None:
        """The content, if this process has read or received it."""
        with _lock:
            return _known.get(self.state)

    @property
    def content(self) -> Content:
        """The content, read where it is not known. Raises GGUFError, OSError, PreparationError."""
        content = self.known_content
        if content is None:
            self.file.seek(0)
            sha256, checksums = read_through(self.file)
            self.expect_unchanged()
            content = Content(self.state, sha256, checksums.encode())
            remember(content)
        return content

    def expect_unchanged(self) -> None:
        """Raise PreparationError if the file is another one or was written to since it was seen."""
        if not FileState.at(self.file_path).is_same_content(self.state):
            raise PreparationError(
                f"{self.file_path} is still being written; prepare it when it is complete"
            )


def remember(content: Content) -> None:
    """Make a content known to this process."""
    with _lock:
        while len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[content.state] = content
