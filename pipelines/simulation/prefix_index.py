"""Which replicas hold which pages, as a router learns it from their events."""

from collections.abc import Sequence

from runtime.page_changes import Changes
from runtime.pages import PageHash


class PrefixIndex:
    """The holders of each page, as bits of an integer. Owned by one thread."""

    def __init__(self) -> None:
        self._holders: dict[PageHash, int] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def update(self, replica: int, changes: Changes) -> None:
        """Take in one batch of a replica's changes."""
        holders, bit = self._holders, 1 << replica
        for page_hash, page in changes.items():
            if page is not None:
                holders[page_hash] = holders.get(page_hash, 0) | bit
            elif left := holders.get(page_hash, 0) & ~bit:
                holders[page_hash] = left
            else:
                holders.pop(page_hash, None)

    def matched(self, hashes: Sequence[PageHash]) -> dict[int, int]:
        """Return how many of the first pages each replica holds; none of those with no page."""
        found: dict[int, int] = {}
        before = -1
        for count, page_hash in enumerate(hashes):
            held = self._holders.get(page_hash, 0) & before
            if count and held != before:
                _note(found, before & ~held, count)
            before = held
            if not held:
                break
        if hashes and before:
            _note(found, before, len(hashes))
        return found


def _note(found: dict[int, int], replicas: int, count: int) -> None:
    """Set the count of each replica whose bit is set."""
    while replicas:
        lowest = replicas & -replicas
        found[lowest.bit_length() - 1] = count
        replicas ^= lowest
