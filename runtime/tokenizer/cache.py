"""Caches tokenizers in memory while they are in use, and their merge tables in a folder."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from runtime.files import write_whole
from runtime.tokenizer.merges import MergeTable

if TYPE_CHECKING:
    from runtime.tokenizer.tokenizer import Tokenizer

CHECKSUM_BYTES = 16


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counts since the cache was made."""

    hits: int
    """Tokenizers found in memory or made from a stored merge table."""
    misses: int
    """Tokenizers made from the GGUF alone."""
    bytes: int
    """Bytes of the merge tables that this cache read or made."""


class TokenizerCache:
    """Safe for any thread. Without a folder it caches in memory only."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep merge tables in `folder`, which is created when the first is written."""
        self._folder = folder
        self._lock = threading.Lock()
        self._made: WeakValueDictionary[str, Tokenizer] = WeakValueDictionary()
        self._sizes: dict[str, int] = {}
        self._hits = 0
        self._misses = 0

    def statistics(self) -> CacheStatistics:
        """Return a consistent snapshot."""
        with self._lock:
            return CacheStatistics(self._hits, self._misses, sum(self._sizes.values()))

    def tokenizer(
        self,
        key: str,
        read_merges: Callable[[], MergeTable],
        make: Callable[[MergeTable], "Tokenizer"],
    ) -> "Tokenizer":
        """Return the tokenizer of a vocabulary with this digest; no two threads make it at once."""
        with self._lock:
            if (known := self._made.get(key)) is not None:
                self._hits += 1
                return known
            merges = self._read(key)
            found = merges is not None
            if merges is None:
                merges = read_merges()
                self._write(key, merges)
            made = make(merges)
            self._made[key] = made
            self._sizes[key] = merges.nbytes
            self._hits += found
            self._misses += not found
            return made

    def _read(self, key: str) -> MergeTable | None:
        """Return the stored table; None if there is none or it is damaged."""
        if self._folder is None:
            return None
        try:
            stored = (self._folder / f"{key}.merges").read_bytes()
        except OSError:
            return None
        table = stored[CHECKSUM_BYTES:]
        if stored[:CHECKSUM_BYTES] != _checksum(table) or len(table) % 8:
            return None
        return np.frombuffer(table, "<i4").astype(np.int32, copy=False).reshape(-1, 2)

    def _write(self, key: str, merges: MergeTable) -> None:
        """Store a table. If that fails, the next start is slower."""
        if self._folder is None:
            return
        table = merges.astype("<i4", copy=False).tobytes()
        with suppress(OSError):
            write_whole(self._folder / f"{key}.merges", _checksum(table) + table)


def _checksum(table: bytes) -> bytes:
    return blake2b(table, digest_size=CHECKSUM_BYTES).digest()
