"""Pages in memory beyond the pool, least recently used out first."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from runtime.pages import PageHash


class RamTier:
    """Contents of pages by their hash, within a bound of bytes. Owned by the engine thread.

    A content is never written to once it is here.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._contents: OrderedDict[PageHash, NDArray[np.uint8]] = OrderedDict()
        self.held_bytes = 0
        self.dropped = 0
        """Number of pages that made room for others."""

    def __contains__(self, page_hash: PageHash) -> bool:
        return page_hash in self._contents

    def put(self, page_hash: PageHash, content: NDArray[np.uint8]) -> None:
        """Keep a page as the most recently used; others make room for it."""
        self.forget((page_hash,))
        if content.nbytes > self._most_bytes:
            self.dropped += 1
            return
        while self.held_bytes + content.nbytes > self._most_bytes:
            _, oldest = self._contents.popitem(last=False)
            self.held_bytes -= oldest.nbytes
            self.dropped += 1
        self._contents[page_hash] = content
        self.held_bytes += content.nbytes

    def get(self, page_hash: PageHash) -> NDArray[np.uint8] | None:
        """Return the content of a page, which now is the most recently used; None without it."""
        content = self._contents.get(page_hash)
        if content is not None:
            self._contents.move_to_end(page_hash)
        return content

    def forget(self, hashes: Iterable[PageHash]) -> None:
        """Remove pages, where they are here."""
        for page_hash in hashes:
            if (content := self._contents.pop(page_hash, None)) is not None:
                self.held_bytes -= content.nbytes
