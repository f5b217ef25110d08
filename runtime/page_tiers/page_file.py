"""The form of a page's file: a head that names the page, its keys and values, and a checksum."""

import struct

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import checksum
from runtime.pages import HASH_BYTES, PageHash

MAGIC = b"RFPAGE01"
HEAD = struct.Struct(f"<8s{HASH_BYTES}s{HASH_BYTES}sQ16x")
"""Magic, identity of the cache, hash of the page, bytes of its content; a multiple of 32 long."""
SUM_BYTES = 16


def file_bytes(page_bytes: int) -> int:
    """Return the size in bytes of the file of a page of this size."""
    return HEAD.size + page_bytes + SUM_BYTES


def encode(
    identity: bytes, page_hash: PageHash, content: NDArray[np.uint8]
) -> tuple[bytes, memoryview, bytes]:
    """Return the parts of a page's file in order. content: contiguous uint8 [page bytes]."""
    head = HEAD.pack(MAGIC, identity, page_hash, len(content))
    return head, content.data, checksum(np.frombuffer(head, np.uint8), content)


def decode(
    identity: bytes, page_hash: PageHash, stored: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """Return the content of a page's file, a view of `stored`; None if damaged or of another page.

    stored: contiguous uint8 [file bytes].
    """
    content = stored[HEAD.size : -SUM_BYTES]
    if stored[: HEAD.size].tobytes() != HEAD.pack(MAGIC, identity, page_hash, len(content)):
        return None
    right = checksum(stored[: HEAD.size], content)
    return content if stored[-SUM_BYTES:].tobytes() == right else None
