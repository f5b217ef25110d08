"""The KV-cache manager: which page of the pool holds what, and eviction. It keeps no arrays.

A page holds `page_size` tokens of one sequence over all layers. A full page is identified by a
chained hash of every token up to its end, so equal prefixes of different requests share pages. An
unreferenced page keeps its content until it is evicted, least recently used first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

PageHash: TypeAlias = bytes

ROOT_HASH: PageHash = b""
HASH_BYTES = 16


def salted_root(salt: bytes) -> PageHash:
    """Return the hash before the first page, so that only equal salts share pages."""
    return hashlib.blake2b(salt, digest_size=HASH_BYTES).digest() if salt else ROOT_HASH


def chain_hash(parent: PageHash, tokens: Sequence[int]) -> PageHash:
    """Return the hash of a full page: its tokens and, through `parent`, every token before."""
    content = np.asarray(tokens, dtype=np.int32).tobytes()
    return hashlib.blake2b(parent + content, digest_size=HASH_BYTES).digest()


class PageManager:
    """Reference counts, prefix hashes and eviction of `page_count` pages.

    Owned by the engine thread. Every page is in exactly one of three states: held (count > 0),
    cached (count 0, content still found by its hash) or blank.
    """

    def __init__(
        self,
        page_count: int,
        page_size: int,
        forgotten: Sequence[Callable[[PageHash], None]] = (),
        evicted: Callable[[int, PageHash], None] | None = None,
    ) -> None:
        """forgotten: each is called with the hash of every page that can no longer be found.

        evicted: called with each page that makes room for another, and its hash, before that.
        """
        self.page_count = page_count
        self.page_size = page_size
        self._references = [0] * page_count
        self._hashes: list[PageHash | None] = [None] * page_count
        self._page_of_hash: dict[PageHash, int] = {}
        # A stack, so that a light load touches few pages of the pool.
        self._blank = list(range(page_count - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._forgotten = forgotten
        self._evicted = evicted

    @property
    def free_count(self) -> int:
        """Number of pages that can be allocated now: blank and cached ones."""
        return len(self._blank) + len(self._cached)

    @property
    def used_count(self) -> int:
        """Number of pages held by sequences."""
        return self.page_count - self.free_count

    def pages_for(self, tokens: int) -> int:
        """Return the number of pages for this many tokens."""
        return -(-tokens // self.page_size)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` pages, each with one reference; None (and nothing taken) if too few."""
        if count > self.free_count:
            return None
        pages = []
        for _ in range(count):
            if self._blank:
                page = self._blank.pop()
            else:
                page, _ = self._cached.popitem(last=False)
                self._evict(page)
            self._references[page] = 1
            pages.append(page)
        return pages

    def match_prefix(self, hashes: Iterable[PageHash]) -> list[int]:
        """Return the cached pages of the longest prefix of `hashes`, each with a new reference."""
        pages = []
        for page_hash in hashes:
            page = self._page_of_hash.get(page_hash)
            if page is None:
                break
            if self._references[page] == 0:
                del self._cached[page]
            self._references[page] += 1
            pages.append(page)
        return pages

    def publish(self, page: int, page_hash: PageHash) -> bool:
        """Make a full, held page findable. The first page of a hash stays the one that is found.

        Returns whether it is this page that is found from now on.
        """
        if self._hashes[page] is not None or page_hash in self._page_of_hash:
            return False
        self._hashes[page] = page_hash
        self._page_of_hash[page_hash] = page
        return True

    def release(self, pages: Sequence[int]) -> None:
        """Give back one reference of each page.

        The last page goes first, so that the end of a prefix is evicted before its beginning.
        """
        for page in reversed(pages):
            if self._references[page] <= 0:
                raise AssertionError(f"page {page} was released more often than it was taken")
            self._references[page] -= 1
            if self._references[page] == 0:
                if self._hashes[page] is None:
                    self._blank.append(page)
                else:
                    self._cached[page] = None

    def forget(self, pages: Iterable[int]) -> None:
        """Make these pages impossible to find; sequences that hold one keep it."""
        for page in pages:
            if page in self._cached:
                del self._cached[page]
                self._blank.append(page)
            self._forget(page)

    def check_integrity(self, held: Iterable[Sequence[int]] = ()) -> None:
        """Raise AssertionError unless states, counts and hashes agree.

        held: the pages of every live sequence; there must be no other references.
        """
        expected = [0] * self.page_count
        for pages in held:
            for page in pages:
                expected[page] += 1
        if expected != self._references:
            raise AssertionError("reference counts differ from what sequences hold")
        idle = [*self._blank, *self._cached]
        if sorted(idle) != [p for p in range(self.page_count) if self._references[p] == 0]:
            raise AssertionError("free lists differ from the pages without references")
        if any(self._hashes[page] is not None for page in self._blank):
            raise AssertionError("a blank page has a hash")
        known = {h: p for p, h in enumerate(self._hashes) if h is not None}
        if known != self._page_of_hash:
            raise AssertionError("the index of hashes differs from the pages' own")

    def _evict(self, page: int) -> None:
        page_hash = self._hashes[page]
        if page_hash is not None and self._evicted is not None:
            self._evicted(page, page_hash)
        self._forget(page)

    def _forget(self, page: int) -> None:
        page_hash = self._hashes[page]
        if page_hash is not None:
            del self._page_of_hash[page_hash]
            self._hashes[page] = None
            for forgotten in self._forgotten:
                forgotten(page_hash)
