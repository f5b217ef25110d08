"""The changes of a prefix cache, handed from the engine's thread to one that publishes them."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from runtime.pages import ROOT_HASH, PageHash

TOKEN: Literal["i"] = "i"
"""Type of a token in arrays of the standard library."""


class FoundPage(NamedTuple):
    """Content of a page that requests may find. Immutable."""

    parent: PageHash | None
    """Hash of the page before; None for the first of a prompt."""
    tokens: bytes
    """Of int32, since as Python's numbers they would take ten times as much."""
    salt: PageHash
    """The root of a first page that is shared within a salt only; else empty."""

    @classmethod
    def of(
        cls, parent: PageHash | None, tokens: Sequence[int], salt: PageHash = ROOT_HASH
    ) -> "FoundPage":
        """Return the page with these tokens."""
        return cls(parent, array(TOKEN, tokens).tobytes(), salt)


Changes: TypeAlias = Mapping[PageHash, FoundPage | None]
"""Pages that can be found now, and None for those that can no longer be."""


class PageChanges:
    """What became of the pages that requests may find, since another thread last took it.

    The engine's thread collects and hands over; one other thread takes. Between them is one place,
    without a lock: while it is full, changes are collected on, and opposite ones cancel out. So
    they are never more than two for each page of the pool, and the engine never waits.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """wake: called when there is something to take; must not wait."""
        self._wake = wake
        self._collected: dict[PageHash, FoundPage | None] = {}
        self._handed: Changes | None = None
        self.ended = False
        """Whether the engine has ended, and its pages are gone."""

    def stored(self, page_hash: PageHash, page: FoundPage) -> None:
        """Note that a page can be found from now on."""
        self._note(page_hash, page)

    def forgotten(self, page_hash: PageHash) -> None:
        """Note that a page that could be found can no longer be."""
        self._note(page_hash, None)

    def hand_over(self) -> None:
        """Give what was collected to the other thread, if it has taken the last."""
        if self._collected and self._handed is None:
            self._handed, self._collected = self._collected, {}
            self._wake()

    def end(self) -> None:
        """Note that all pages are gone, at the end of the engine's thread."""
        self.ended = True
        self._wake()

    def take(self) -> Changes:
        """Return what was handed over, for the other thread; empty if there is nothing."""
        # The engine's thread writes only where it sees None, so nothing is lost between these two.
        if (handed := self._handed) is None:
            return {}
        self._handed = None
        return handed

    def _note(self, page_hash: PageHash, page: FoundPage | None) -> None:
        # A page changes between found and forgotten, so a second change undoes the first.
        if page_hash in self._collected:
            del self._collected[page_hash]
        else:
            self._collected[page_hash] = page
