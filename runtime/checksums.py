"""Checksums of a weights file, one per mebibyte, to find changed bytes."""

import ctypes
import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library
from runtime.progress import Amount, uncounted

CHECKSUMS_NAME = "weights.sums"
"""Name of the file in a prepared folder with the checksums of its GGUF files."""
CHUNK = 1 << 20
"""Bytes per checksum."""
LANES = 4
"""Number of CRC-32C values in a checksum, each of every fourth 8 bytes."""
REPORTED = 64 * CHUNK
"""Bytes after which `read_through` says how far it is."""
SPREAD = 8
"""Number of chunks to compare if reading all would take too long."""
BEGIN = 0xFFFFFFFF
MAGIC = b"RFSUMS01"
HEADER = struct.Struct("<8sQQ")


@dataclass(frozen=True, slots=True, eq=False)
class Checksums:
    """Checksums of a file's content. Immutable."""

    size: int
    """Size of the content in bytes."""
    sums: NDArray[np.uint32]
    """[chunks, LANES]"""

    @classmethod
    def of(cls, data: NDArray[np.uint8]) -> "Checksums":
        """Return the checksums of contiguous bytes."""
        adding = ChecksumsOf()
        adding.add(data)
        return adding.result()

    @staticmethod
    def encoded_size(size: int) -> int:
        """Return the size in bytes of the stored checksums of a file of this size."""
        return HEADER.size + (-(-size // CHUNK) + 1) * LANES * 4

    def encode(self) -> bytes:
        """Return the stored form, which ends with a checksum of itself."""
        stored = HEADER.pack(MAGIC, self.size, CHUNK) + self.sums.astype("<u4").tobytes()
        return stored + _sum(np.frombuffer(stored, np.uint8)).astype("<u4").tobytes()

    @classmethod
    def decode(cls, stored: bytes) -> "Checksums | None":
        """Return the checksums of a stored form; None if that is damaged."""
        own = LANES * 4
        if len(stored) < HEADER.size + own or stored[: len(MAGIC)] != MAGIC:
            return None
        _, size, chunk = HEADER.unpack_from(stored)
        if chunk != CHUNK or len(stored) != cls.encoded_size(size):
            return None
        content = np.frombuffer(stored[:-own], np.uint8)
        if stored[-own:] != _sum(content).astype("<u4").tobytes():
            return None
        sums = np.frombuffer(content[HEADER.size :], "<u4").astype(np.uint32)
        return cls(size, sums.reshape(-1, LANES))

    @classmethod
    def read(cls, folder: Path, sizes: Sequence[int]) -> "tuple[Checksums | None, ...]":
        """Return the checksums of each GGUF of a prepared folder; None if missing or unreadable.

        sizes: of the files, in bytes. Their checksums follow each other in one file.
        """
        try:
            stored = (folder / CHECKSUMS_NAME).read_bytes()
        except OSError:
            return (None,) * len(sizes)
        found: list[Checksums | None] = []
        at = 0
        for size in sizes:
            end = at + cls.encoded_size(size)
            checksums = cls.decode(stored[at:end])
            found.append(None if checksums is None or checksums.size != size else checksums)
            at = end
        return tuple(found)

    def damaged(self, data: NDArray[np.uint8], chunks: Iterable[int] | None = None) -> int | None:
        """Return the offset of the first chunk that differs, among all or those given, or None.

        data: the content, uint8 [size].
        """
        for chunk in range(len(self.sums)) if chunks is None else chunks:
            start = chunk * CHUNK
            if not np.array_equal(_sum(data[start : start + CHUNK]), self.sums[chunk]):
                return start
        return None

    def spread(self) -> tuple[int, ...]:
        """Return chunks spread evenly over the content, including the first and the last."""
        places = np.linspace(0, len(self.sums) - 1, SPREAD + 1)
        return tuple(sorted(set(places.astype(int).tolist())))

    def chunks_of(self, start: int, end: int) -> range:
        """Return the chunks that contain these bytes."""
        return range(start // CHUNK, -(-end // CHUNK))


class ChecksumsOf:
    """Checksums of bytes that arrive in pieces. Owned by one thread.

    The length of every piece but the last is a multiple of 32.
    """

    def __init__(self) -> None:
        self._size = 0
        self._sums: list[NDArray[np.uint32]] = []

    def add(self, data: NDArray[np.uint8]) -> None:
        """Add contiguous bytes."""
        at = 0
        while at < len(data):
            room = CHUNK - self._size % CHUNK
            if room == CHUNK:
                self._sums.append(np.full(LANES, BEGIN, np.uint32))
            piece = data[at : at + room]
            _add(piece, self._sums[-1])
            at += len(piece)
            self._size += len(piece)

    def result(self) -> Checksums:
        """Return the checksums of all bytes added."""
        return Checksums(self._size, np.array(self._sums, np.uint32).reshape(-1, LANES))


def read_through(file: BufferedReader, amount: Amount = uncounted) -> tuple[str, Checksums]:
    """Return SHA-256 in hexadecimal and checksums of an open file in one read. Raises OSError."""
    done, total = 0, os.fstat(file.fileno()).st_size
    digest, adding = hashlib.sha256(), ChecksumsOf()
    buffer = bytearray(CHUNK)
    view = np.frombuffer(buffer, np.uint8)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
        adding.add(view[:count])
        done += count
        if done % REPORTED < count:
            amount(done, total)
    amount(done, total)
    return digest.hexdigest(), adding.result()


def checksum(*parts: NDArray[np.uint8]) -> bytes:
    """Return the 16 bytes of a checksum of contiguous bytes in parts.

    The length of every part but the last is a multiple of 32.
    """
    sums = np.full(LANES, BEGIN, np.uint32)
    for part in parts:
        _add(part, sums)
    return sums.astype("<u4").tobytes()


def _sum(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    sums = np.full(LANES, BEGIN, np.uint32)
    _add(data, sums)
    return sums


def _add(data: NDArray[np.uint8], sums: NDArray[np.uint32]) -> None:
    native_library().rocmforge_add_checksum(
        data.ctypes.data, len(data), sums.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
    )
