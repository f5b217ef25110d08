"""Request bodies while they arrive: in memory, with one limit over all connections."""

import re
import threading
from typing import BinaryIO

from waitress.buffers import BytesIOBasedBuffer
from waitress.rfc7230 import CHUNK_EXT_RE, ONLY_HEXDIG_RE

UNCOUNTED_BYTES = 64 * 1024
"""Bytes of a body that do not count, so that small requests always get through."""
MAX_CONTROL_BYTES = 1024
"""Of a chunk's size with its extensions."""
MAX_TRAILER_BYTES = 64 * 1024
MAX_SIZE_DIGITS = 16
END_OF_LINE = b"\r\n"
PLAIN_SIZE = re.compile(rb"([0-9a-fA-F]{1,%d})\r\n" % MAX_SIZE_DIGITS)


class BodiesFull(Exception):
    """The bodies of all connections together exceed their limit."""


class InvalidChunks(Exception):
    """A chunked body that violates RFC 9112; the message says why."""


class BodyMemory:
    """Counts the bytes of bodies that are held over all connections.

    Any thread may call any method: the loop's thread adds bytes, others release them.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes that are counted now."""
        return self._held_bytes

    def take(self, count: int) -> None:
        """Count further bytes. Raises BodiesFull where they are too many."""
        with self._lock:
            if self._held_bytes + count > self._most_bytes:
                raise BodiesFull
            self._held_bytes += count

    def give_back(self, count: int) -> None:
        """Count bytes no longer."""
        with self._lock:
            self._held_bytes -= count


class BodyBuffer(BytesIOBasedBuffer):  # type: ignore[misc]
    """One body. Written by the loop's thread, then read and closed by the request's own.

    It never becomes a file, so neither a full disk nor missing descriptors can break it.
    """

    def __init__(self, memory: BodyMemory) -> None:
        super().__init__()
        self._memory = memory
        self._counted = 0

    def append(self, data: bytes) -> None:
        """Hold further bytes. Raises BodiesFull."""
        further = max(0, len(self) + len(data) - UNCOUNTED_BYTES) - self._counted
        self._memory.take(further)
        self._counted += further
        super().append(data)

    def close(self) -> None:
        """Let go of the bytes; a second time does nothing."""
        counted, self._counted = self._counted, 0
        self._memory.give_back(counted)
        super().close()


class ChunkedBody:
    """Reads a chunked body into a buffer (a receiver, as Waitress calls it).

    Owned by the loop's thread. Its work grows with the bytes, however the client cuts them up.
    """

    error = None

    def __init__(self, buffer: BodyBuffer) -> None:
        self._buffer = buffer
        self._line = bytearray()
        """The received part of a line."""
        self._remaining = 0
        """Bytes of the current chunk that are still missing."""
        self._trailer_bytes = 0
        self._read = self._read_size
        self.completed = False

    def __len__(self) -> int:
        return len(self._buffer)

    def received(self, data: bytes) -> int:
        """Take the body's next bytes; returns how many of `data` were of it.

        Raises BodiesFull or InvalidChunks.
        """
        position = 0
        while position < len(data) and not self.completed:
            position += self._read(data, position)
        return position

    def getfile(self) -> BinaryIO:
        """The body for the application."""
        file: BinaryIO = self._buffer.getfile()
        return file

    def getbuf(self) -> BodyBuffer:
        """The buffer."""
        return self._buffer

    def _read_size(self, data: bytes, position: int) -> int:
        """Read the line in front of a chunk: its size in hexadecimal digits, and extensions."""
        if not self._line and (taken := self._read_whole_chunks(data, position)):
            return taken
        line, taken = self._line_of(data, position, MAX_CONTROL_BYTES)
        if line is not None:
            size, semicolon, _ = line.partition(b";")
            if not ONLY_HEXDIG_RE.fullmatch(size) or len(size) > MAX_SIZE_DIGITS:
                raise InvalidChunks("the size of a chunk is no hexadecimal number")
            if semicolon and not CHUNK_EXT_RE.fullmatch(line[len(size) :]):
                raise InvalidChunks("the extension of a chunk is malformed")
            self._remaining = int(size, 16)
            self._read = self._read_data if self._remaining else self._read_trailer
        return taken

    def _read_whole_chunks(self, data: bytes, position: int) -> int:
        """Read at once those that are there with all their bytes, which may be thousands."""
        start, chunks = position, []
        while (size := PLAIN_SIZE.match(data, position)) is not None:
            begin = size.end()
            end = begin + int(size[1], 16)
            if begin == end or data[end : end + len(END_OF_LINE)] != END_OF_LINE:
                break
            chunks.append(data[begin:end])
            position = end + len(END_OF_LINE)
        if chunks:
            self._buffer.append(b"".join(chunks))
        return position - start

    def _read_data(self, data: bytes, position: int) -> int:
        chunk = data[position : position + self._remaining]
        self._buffer.append(chunk)
        self._remaining -= len(chunk)
        if not self._remaining:
            self._read = self._read_end
        return len(chunk)

    def _read_end(self, data: bytes, position: int) -> int:
        """Read the end of line after a chunk's data."""
        line, taken = self._line_of(data, position, 0)
        if line is not None:
            self._read = self._read_size
        return taken

    def _read_trailer(self, data: bytes, position: int) -> int:
        """Read and discard trailer fields, up to an empty line."""
        line, taken = self._line_of(data, position, MAX_TRAILER_BYTES - self._trailer_bytes)
        if line is not None:
            self._trailer_bytes += len(line)
            self.completed = not line
        return taken

    def _line_of(self, data: bytes, position: int, most: int) -> tuple[bytes | None, int]:
        """The line that ends in `data`, None where it does not end yet; and the bytes it took.

        Raises InvalidChunks for one of more bytes than `most`.
        """
        known = len(self._line)
        longest = most + len(END_OF_LINE)
        self._line += data[position : position + longest - known]
        # The carriage return may have arrived before.
        end = self._line.find(END_OF_LINE, max(0, known - 1))
        if end >= 0:
            line = bytes(self._line[:end])
            self._line.clear()
            return line, end + len(END_OF_LINE) - known
        if len(self._line) >= longest:
            raise InvalidChunks(f"a line of a chunked body is longer than {most} bytes")
        return None, len(self._line) - known
