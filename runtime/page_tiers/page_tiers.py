"""Pages beyond the pool: what leaves it is kept in RAM and on disk, and found there again."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.page_tiers.disk_queue import DiskQueue
from runtime.page_tiers.page_fetch import KeptPage, PageFetch
from runtime.page_tiers.prefill_client import AskedPrompt, PrefillClient
from runtime.page_tiers.ram_tier import RamTier
from runtime.pages import PageHash
from runtime.statistics import PageTierCounts

TOUCH_SECONDS = 60.0
"""Time from one note on disk that a page was used to the next."""

COPIED_BYTES = 32 << 20
"""Bytes copied from the pool between two steps: some milliseconds."""
WRITTEN_SECONDS = 60.0
"""Longest time in which the pages of a prompt are written."""

log = logging.getLogger("rocmforge.page_tiers")


class PageMemory(Protocol):
    """The pool, page by page."""

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of a page's content, uint8 [page bytes]."""

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Replace a page's content."""


class PageTiers:
    """Copies pages of the pool to a tier in RAM and to one on disk, and back.

    Owned by the engine thread, which only copies memory here: the disk has a thread of its own. A
    fault costs the tiers, never a request. Any thread may call `counts`.
    """

    def __init__(
        self,
        memory: PageMemory,
        *,
        ram: RamTier | None = None,
        disk: DiskQueue | None = None,
        prefill: PrefillClient | None = None,
    ) -> None:
        """prefill: a process that computes prompts for this one and shares its disk."""
        self._memory = memory
        self._ram = ram
        self._disk = disk
        self._prefill = prefill
        self._wake: Callable[[], None] = lambda: None
        self._copies = True
        """Whether pages are copied from the pool."""
        self._copied_bytes = 0
        """Since the last step."""
        self._counts = PageTierCounts()
        self._on_disk: dict[PageHash, float] = {}
        """Pages of the pool that are on disk or wait to be: when their use was noted there."""

    def start(self, wake: Callable[[], None]) -> None:
        """Start the thread of the disk. It calls `wake` when it has found pages."""
        self._wake = wake
        if self._disk is not None:
            self._disk.start(wake)

    def close(self) -> None:
        """Write what waits to be written, within a bounded time, and end the thread."""
        if self._disk is not None:
            self._disk.close()

    def begin_step(self) -> None:
        """Begin to count what is copied before the next step."""
        self._copied_bytes = 0

    def wait_until_written(self) -> bool:
        """Wait until the pages that wait now are on disk; any thread may. Returns if they are."""
        return self._disk is not None and self._disk.wait_until_written(WRITTEN_SECONDS)

    def ask(self, tokens: Sequence[int], salt: bytes) -> AskedPrompt | None:
        """Let another process compute full pages; None if there is none that could."""
        if self._prefill is None or self._disk is None or not self._disk.reads:
            return None
        return self._prefill.ask(tokens, salt, self._wake)

    def counts(self) -> PageTierCounts:
        """Return what was counted."""
        counts = replace(self._counts)
        if (ram := self._ram) is not None:
            counts.ram_bytes, counts.ram_dropped_pages = ram.held_bytes, ram.dropped
        if (disk := self._disk) is not None:
            counts.disk_written_bytes = disk.written_bytes
            counts.disk_dropped_pages = disk.dropped
            counts.disk_damaged_pages = disk.damaged
        if self._prefill is not None:
            counts.prompts_handed_over = self._prefill.asked
        return counts

    def keep(self, page: int, page_hash: PageHash) -> None:
        """Hand a page of the pool to the disk, unless it was before."""
        disk = self._disk
        if disk is None or page_hash in self._on_disk or not disk.has_room(self._memory.page_bytes):
            return
        if (content := self._copied(page)) is not None:
            disk.write(page_hash, content)
            self._on_disk[page_hash] = time.monotonic()

    def evicted(self, page: int, page_hash: PageHash) -> None:
        """Take a page that leaves the pool into RAM, and hand it to the disk if it never was."""
        ram, disk = self._ram, self._disk
        is_on_disk = self._on_disk.pop(page_hash, None) is not None
        if ram is not None and ram.get(page_hash) is not None:
            ram = None
        if is_on_disk or (disk is not None and not disk.has_room(self._memory.page_bytes)):
            disk = None
        if (ram is None and disk is None) or (content := self._copied(page)) is None:
            return
        if ram is not None:
            ram.put(page_hash, content)
        if disk is not None:
            disk.write(page_hash, content)

    def used(self, hashes: Iterable[PageHash]) -> None:
        """Note on disk that pages of the pool are used, lest others take their place there."""
        now = time.monotonic()
        noted = self._on_disk
        stale = [each for each in hashes if now - noted.get(each, now) > TOUCH_SECONDS]
        if stale and self._disk is not None:
            noted.update(dict.fromkeys(stale, now))
            # The beginning of a prefix last, so that its end is deleted before.
            self._disk.touch(stale[::-1])

    def find(self, hashes: Sequence[PageHash]) -> PageFetch | None:
        """Begin to look for pages in order; None if the first is not here."""
        fetch = PageFetch(hashes)
        if self._ram is not None:
            # The beginning of a prefix last, so that its end makes room before.
            for each in reversed(hashes):
                if (content := self._ram.get(each)) is not None:
                    fetch.in_ram[each] = content
        for each in takewhile(fetch.in_ram.__contains__, hashes):
            fetch.found.append(KeptPage(each, fetch.in_ram[each], "ram"))
        fetch.sought = len(fetch.found)
        disk = self._disk
        if fetch.sought < len(hashes) and disk is not None and disk.reads and not disk.is_late:
            disk.fetch(fetch)
            return fetch
        fetch.ended = True
        return fetch if fetch.found else None

    def take(self, fetch: PageFetch) -> KeptPage | None:
        """Return the next page that was found; None if there is none now."""
        if self._disk is not None:
            return self._disk.take(fetch)
        return fetch.found.popleft() if fetch.found else None

    def restore(self, page: int, found: KeptPage) -> None:
        """Copy a page that was found into a page of the pool."""
        began = time.perf_counter()
        self._memory.write_page(page, found.content)
        self._counts.restore_seconds += time.perf_counter() - began
        self._counts.restored_bytes += found.content.nbytes
        if found.tier == "ram":
            self._counts.ram_hit_pages += 1
        else:
            self._counts.disk_hit_pages += 1
        # What is in RAM was handed to the disk when it left the pool.
        self._on_disk[found.page_hash] = time.monotonic()

    def end(self, fetch: PageFetch) -> None:
        """Look for no more pages of a fetch, and drop those that were not taken."""
        if self._disk is not None:
            self._disk.end(fetch)
        else:
            fetch.ended = True
            fetch.found.clear()

    def gives_up(self, fetch: PageFetch) -> bool:
        """Whether a fetch is not worth waiting for: the disk does not answer."""
        return not fetch.found and self._disk is not None and self._disk.is_late

    def forget(self, hashes: Iterable[PageHash]) -> None:
        """Remove pages from every tier: their content may be wrong."""
        wrong = frozenset(hashes)
        for each in wrong:
            self._on_disk.pop(each, None)
        if self._ram is not None:
            self._ram.forget(wrong)
        if self._disk is not None:
            self._disk.delete(wrong)

    def distrust(self) -> None:
        """Remove all pages from disk: any may come from damaged weights."""
        if self._disk is not None:
            self._disk.distrust()

    def _copied(self, page: int) -> NDArray[np.uint8] | None:
        """Return a page's content; None if it cannot be copied, or a step would wait for it."""
        if not self._copies:
            return None
        self._copied_bytes += self._memory.page_bytes
        if self._copied_bytes > COPIED_BYTES:
            self._counts.uncopied_pages += 1
            return None
        began = time.perf_counter()
        try:
            content = self._memory.read_page(page)
        except BaseException:
            log.exception("a page cannot be copied; no more are kept beyond the pool")
            self._copies = False
            return None
        self._counts.copied_bytes += content.nbytes
        self._counts.copy_seconds += time.perf_counter() - began
        return content
