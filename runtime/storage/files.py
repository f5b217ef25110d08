"""Sends and fetches the files of a GGUF chunk by chunk, going on where an earlier attempt ended."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.errors import PreparationError, StorageError
from runtime.manifest import WeightsPiece
from runtime.progress import Amount
from runtime.storage.in_order import in_order
from runtime.storage.layout import (
    Chunks,
    chunks_key,
    encoded,
    has_object,
    read_chunks,
    read_object,
    write_object,
)
from runtime.storage.stores import Store

CHUNK_BYTES = 32 << 20
"""Bytes of a chunk: what is sent again after a cut, and few enough objects."""


def send(store: Store, file: WeightsPiece, path: Path, amount: Amount) -> int:
    """Put a file into the storage; return the bytes that were sent.

    What is there already is not sent. amount: of the file. Raises PreparationError if the file is
    not the one that was published, StorageError, and OSError where it cannot be read.
    """
    known = read_chunks(store, file.sha256)
    with path.open("rb") as opened:
        if known is not None:
            return _send_missing(store, known, opened, path, amount)
        return _send_new(store, file, opened, path, amount)


def _send_new(
    store: Store, file: WeightsPiece, opened: BinaryIO, path: Path, amount: Amount
) -> int:
    digest = hashlib.sha256()
    chunks: list[str] = []
    sent = done = 0

    def contents() -> Iterator[bytes]:
        while content := opened.read(CHUNK_BYTES):
            digest.update(content)
            yield content

    def put(content: bytes) -> tuple[str, int, int]:
        sha256 = hashlib.sha256(content).hexdigest()
        return sha256, len(content), write_object(store, sha256, content)

    for sha256, size, written in in_order(put, contents()):
        chunks.append(sha256)
        sent += written
        done += size
        amount(done, file.size)
    if digest.hexdigest() != file.sha256:
        raise _changed(path)
    # Last: whoever finds it finds all chunks.
    listed = Chunks(file.size, CHUNK_BYTES, tuple(chunks))
    store.write(chunks_key(file.sha256), encoded(listed))
    return sent


def _send_missing(store: Store, known: Chunks, opened: BinaryIO, path: Path, amount: Amount) -> int:
    """Send those chunks of a known file that somebody has deleted."""
    sent = 0

    def put(index: int) -> int:
        size = known.bytes_of(index)
        if has_object(store, known.chunks[index], size):  # it is not read, then
            return 0
        content = os.pread(opened.fileno(), size, index * known.chunk_bytes)
        if hashlib.sha256(content).hexdigest() != known.chunks[index]:
            raise _changed(path)
        return write_object(store, known.chunks[index], content)

    for index, written in enumerate(in_order(put, range(len(known.chunks)))):
        sent += written
        amount(min((index + 1) * known.chunk_bytes, known.size), known.size)
    return sent


def fetch(store: Store, file: WeightsPiece, target: Path, amount: Amount) -> None:
    """Fetch a file; what `target` has of it from an earlier attempt is kept.

    amount: of the file. Raises StorageError, and OSError where it cannot be written.
    """
    chunks = read_chunks(store, file.sha256)
    if chunks is None or chunks.size != file.size:
        raise StorageError(
            f"{store.url} does not have the file {file.path} of {file.size} bytes; push its model "
            "again"
        )
    target.touch()
    with target.open("r+b") as opened:
        whole = _whole_chunks(opened, chunks)
        done = whole * chunks.chunk_bytes
        opened.seek(done)
        opened.truncate()

        def get(index: int) -> bytes:
            return read_object(store, chunks.chunks[index], chunks.bytes_of(index))

        for content in in_order(get, range(whole, len(chunks.chunks))):
            opened.write(content)
            done += len(content)
            amount(done, file.size)
        opened.flush()
        os.fsync(opened.fileno())


def _whole_chunks(opened: BinaryIO, chunks: Chunks) -> int:
    """Return how many chunks at the beginning of a file are as they should be."""
    for index, sha256 in enumerate(chunks.chunks):
        content = opened.read(chunks.bytes_of(index))
        if hashlib.sha256(content).hexdigest() != sha256:
            return index
    return len(chunks.chunks)


def _changed(path: Path) -> PreparationError:
    return PreparationError(f"{path} has changed since it was prepared; prepare it again")
