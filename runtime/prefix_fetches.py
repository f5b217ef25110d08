"""Holds back sequences until pages of their prefix have come from tiers beyond the pool."""

from collections.abc import Callable, Iterator

from runtime.page_tiers import AskedPrompt, PageFetch, PageTiers
from runtime.pages import PageManager
from runtime.sequence import Sequence

LEAST_PAGES = 4
"""Pages for which another process is asked; fewer are computed sooner here."""
RESTORED_BYTES = 32 << 20
"""Bytes copied into the pool between two steps: some milliseconds."""


class PrefixFetches:
    """Sequences that wait for pages, and the pages that they hold. Owned by the engine thread.

    Pages that come are held in the pool, after those that were there, until no more come. Then the
    sequence starts as any other, whose prefix is known. Where running sequences need the room, they
    get it. While another process computes its prompt, a sequence holds none. A sequence whose pages
    another one is waiting for waits with it.
    """

    def __init__(
        self,
        pages: PageManager,
        tiers: PageTiers,
        publish: Callable[[Sequence, int], object],
    ) -> None:
        """publish: makes a full page of a sequence findable, by its place in the sequence."""
        self._pages = pages
        self._tiers = tiers
        self._publish = publish
        self._fetches: dict[Sequence, PageFetch] = {}
        self._asked: dict[Sequence, AskedPrompt] = {}
        """Those of them whose pages another process computes."""
        self._joined: dict[Sequence, PageFetch] = {}
        """Sequences that wait for another one's pages."""

    def __len__(self) -> int:
        return len(self._fetches) + len(self._joined)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._fetches
        yield from self._joined

    @property
    def awaits(self) -> bool:
        """Whether sequences wait, and no page can be copied and none of them can start."""
        return bool(self) and not any(
            self._asked[sequence].ended if sequence in self._asked else fetch.found or fetch.ended
            for sequence, fetch in self._fetches.items()
        )

    def begin(self, sequence: Sequence) -> bool:
        """Look beyond the pool for the rest of a sequence's prefix; return whether it waits for it.

        Each sequence is looked for once, until it has run.
        """
        if sequence.sought or sequence.scored < sequence.to_score:
            return False
        size = self._pages.page_size
        whole = len(sequence.tokens) // size
        sequence.hash_pages(whole, size)
        known = self._pages.match_prefix(sequence.hashes[:whole])
        rest = sequence.hashes[len(known) : whole]
        fetch = None
        if rest:
            for other in self._fetches.values():
                if rest[0] in other.hashes:
                    self._pages.release(known)
                    self._joined[sequence] = other
                    return True
            fetch = self._tiers.find(rest)
        if fetch is None:
            sequence.sought = True
            self._pages.release(known)
            return False
        sequence.pages = known
        self._fetches[sequence] = fetch
        return True

    def take_ready(self, running: int) -> list[Sequence]:
        """Copy pages that have come into the pool, and return the sequences that wait no more.

        running: number of running sequences, each of which keeps a page to go on.
        """
        left = RESTORED_BYTES
        ready = []
        for sequence in list(self._fetches):
            if sequence in self._asked and not self._look_again(sequence):
                continue
            fetch = self._fetches[sequence]
            while left > 0 and (found := self._tiers.take(fetch)) is not None:
                left -= found.content.nbytes
                if known := self._pages.match_prefix((found.page_hash,)):
                    sequence.pages += known
                    continue
                has_room = self._pages.free_count > running
                if not has_room or (fresh := self._pages.allocate(1)) is None:
                    self._tiers.end(fetch)
                    break
                self._tiers.restore(fresh[0], found)
                sequence.pages += fresh
                self._publish(sequence, len(sequence.pages) - 1)
            has_ended = fetch.ended and not fetch.found and not self._ask(sequence)
            if has_ended or self._tiers.gives_up(fetch):
                self._finish(sequence)
                ready.append(sequence)
        ended = [
            each for each, fetch in self._joined.items() if fetch not in self._fetches.values()
        ]
        for sequence in ended:
            del self._joined[sequence]
        return ready + ended

    def give_way(self) -> bool:
        """Let the youngest sequence that holds pages give them back; return whether one did."""
        for sequence in reversed(self._fetches):
            if sequence.pages:
                self._tiers.end(self._fetches[sequence])
                self._release(sequence)
                return True
        return False

    def discard(self, sequence: Sequence) -> bool:
        """Remove a waiting sequence; return whether it was one."""
        if sequence in self._fetches:
            self._finish(sequence)
            return True
        return self._joined.pop(sequence, None) is not None

    def _ask(self, sequence: Sequence) -> bool:
        """Let another process compute the rest of a prefix, once; return whether it is asked."""
        size = self._pages.page_size
        whole = len(sequence.tokens) // size
        if sequence.sought or whole - len(sequence.pages) < LEAST_PAGES:
            return False
        sequence.sought = True
        asked = self._tiers.ask(sequence.tokens[: whole * size], sequence.salt)
        if asked is None:
            return False
        self._asked[sequence] = asked
        self._release(sequence)  # it may take long, and others need the room
        return True

    def _look_again(self, sequence: Sequence) -> bool:
        """Look for what another process has computed; return whether it has ended."""
        if not self._asked[sequence].ended:
            return False
        del self._asked[sequence]
        whole = len(sequence.tokens) // self._pages.page_size
        sequence.pages = self._pages.match_prefix(sequence.hashes[:whole])
        rest = sequence.hashes[len(sequence.pages) : whole]
        self._fetches[sequence] = self._tiers.find(rest) or self._fetches[sequence]
        return True

    def _finish(self, sequence: Sequence) -> None:
        if (asked := self._asked.pop(sequence, None)) is not None:
            asked.cancel()
        self._tiers.end(self._fetches.pop(sequence))
        self._release(sequence)
        sequence.sought = True

    def _release(self, sequence: Sequence) -> None:
        pages, sequence.pages = sequence.pages, []
        self._pages.release(pages)
