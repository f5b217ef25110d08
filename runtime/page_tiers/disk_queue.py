"""The disk tier behind a queue: one background thread reads and writes, so that nobody waits."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.page_tiers.disk_tier import DiskTier
from runtime.page_tiers.page_fetch import KeptPage, PageFetch
from runtime.pages import PageHash

QUEUE_BYTES = 64 << 20
"""Pages that wait to be written; more are dropped."""
AHEAD_BYTES = 64 << 20
"""Pages that were read and wait to be copied into the pool."""
PATIENCE_SECONDS = 5.0
"""A disk that takes longer for one page is not waited for."""
CLOSE_SECONDS = 5.0
"""Time at the end for pages that wait to be written."""

log = logging.getLogger("rocmforge.page_tiers")


class DiskQueue:
    """Work for the disk tier, and what it found. Any thread may call it: one lock guards the state.

    The tier itself is owned by the background thread. Pages to read come first, then deletions,
    notes of use and pages to write. A disk that cannot be written to is only read from then on, and
    one that cannot be read is not used any more; both are one line in the log.
    """

    def __init__(self, disk: DiskTier) -> None:
        self._disk = disk
        self._changed = threading.Condition()
        self._fetches: deque[PageFetch] = deque()
        """What is read, a page of each by turns, now of the first."""
        self._deletions: deque[PageHash] = deque()
        self._touches: deque[Sequence[PageHash]] = deque()
        self._pending: OrderedDict[PageHash, NDArray[np.uint8]] = OrderedDict()
        """Pages to write, the oldest first."""
        self._written_now: PageHash | None = None
        self._ahead_bytes = 0
        self._distrusts = False
        """Whether all pages are to be deleted."""
        self._busy_since: float | None = None
        self._wake: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._closing = False
        self.reads = True
        """Whether the disk is read."""
        self.writes = True
        """Whether the disk is written to."""
        self.dropped = 0
        """Number of pages that were not written because too many were waiting."""
        self.written_bytes = 0

    @property
    def damaged(self) -> int:
        """Number of files that did not hold the page of their name."""
        return self._disk.damaged

    @property
    def is_late(self) -> bool:
        """Whether the disk has been busy with one page for too long to be waited for."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > PATIENCE_SECONDS

    def start(self, wake: Callable[[], None]) -> None:
        """Start the background thread. It calls `wake` when it has found pages."""
        self._wake = wake
        self._thread = threading.Thread(target=self._work, name="page tiers", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            self._thread = None
            self._leave("no thread can be started for it")

    def close(self) -> None:
        """Write what waits, within a bounded time, and end the background thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def wait_until_written(self, seconds: float) -> bool:
        """Wait until the pages that wait now are written; return whether they were in time."""
        with self._changed:
            waiting = {*self._pending, self._written_now} - {None}
            return self._changed.wait_for(
                lambda: waiting.isdisjoint({*self._pending, self._written_now}), seconds
            )

    def has_room(self, size: int) -> bool:
        """Whether another page of this many bytes may wait; counts one that may not."""
        with self._changed:
            if not self.writes:
                return False
            if (len(self._pending) + 1) * size > QUEUE_BYTES:
                self.dropped += 1
                return False
            return True

    def write(self, page_hash: PageHash, content: NDArray[np.uint8]) -> None:
        """Let a page be written, of which nobody changes the content from now on."""
        with self._changed:
            if not self.writes:
                return
            self._pending[page_hash] = content
            self._changed.notify_all()

    def touch(self, hashes: Sequence[PageHash]) -> None:
        """Let the use of pages be noted, in this order; not while the disk does not answer."""
        with self._changed:
            if not self.writes or self.is_late:
                return
            self._touches.append(hashes)
            self._changed.notify_all()

    def delete(self, hashes: Iterable[PageHash]) -> None:
        """Let pages be deleted, and end the fetches that want one of them."""
        wrong = frozenset(hashes)
        with self._changed:
            for each in wrong:
                self._pending.pop(each, None)
            if self.reads:
                self._deletions.extend(wrong)
            for fetch in [each for each in self._fetches if not wrong.isdisjoint(each.hashes)]:
                self._end(fetch)
            self._changed.notify_all()

    def distrust(self) -> None:
        """Let all pages be deleted: any may come from damaged weights.

        Also those of other processes, since one that was killed cannot delete its own any more.
        """
        with self._changed:
            self._distrusts = True
            self.writes = False
            self._pending.clear()
            self._touches.clear()
            for fetch in list(self._fetches):
                self._end(fetch)
            self._changed.notify_all()

    def fetch(self, fetch: PageFetch) -> None:
        """Let the pages of a fetch be read that it does not have yet."""
        with self._changed:
            self._fetches.append(fetch)
            self._changed.notify_all()

    def take(self, fetch: PageFetch) -> KeptPage | None:
        """Return the next page of a fetch that was found; None if there is none now."""
        with self._changed:
            found = fetch.found.popleft() if fetch.found else None
            if found is not None and found.tier == "disk":
                self._ahead_bytes -= found.content.nbytes
                self._changed.notify_all()
            return found

    def end(self, fetch: PageFetch) -> None:
        """Read no more pages of a fetch, and drop those that were not taken."""
        with self._changed:
            self._end(fetch)
            self._changed.notify_all()

    def _end(self, fetch: PageFetch) -> None:
        on_disk = [each.content.nbytes for each in fetch.found if each.tier == "disk"]
        self._ahead_bytes -= sum(on_disk)
        fetch.found.clear()
        fetch.ended = True
        if fetch in self._fetches:
            self._fetches.remove(fetch)

    def _leave(self, why: str, *, reads: bool = True) -> None:
        """Write to the disk no more, and with `reads` do not even read it."""
        with self._changed:
            leaves = self.reads if reads else self.writes
            self.writes = False
            self._pending.clear()
            self._changed.notify_all()
            self._touches.clear()
            if reads:
                self.reads = False
                self._deletions.clear()
                for fetch in list(self._fetches):
                    self._end(fetch)
        if leaves:
            ends = "is not used any more" if reads else "gets no more pages"
            log.error("the KV cache on disk %s: %s", ends, why)
        self._wake()

    def _work(self) -> None:
        """Do what is queued until `close`; runs in the background thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next_work() or self._closing)
                work = self._next_work()
            if work is None:
                return
            self._busy_since = time.monotonic()
            try:
                work()
            except OSError as error:
                self._leave(str(error), reads=work not in (self._touch_some, self._write_one))
            except BaseException as error:
                log.exception("the KV cache on disk failed")
                self._leave(repr(error))
            finally:
                self._busy_since = None

    def _next_work(self) -> Callable[[], None] | None:
        if self._distrusts:
            return self._delete_all
        if self._fetches and self._ahead_bytes < AHEAD_BYTES and not self._closing:
            return self._read_one
        if self._deletions:
            return self._delete_one
        if self._touches:
            return self._touch_some
        return self._write_one if self._pending else None

    def _read_one(self) -> None:
        """Read the next page of the first fetch."""
        with self._changed:
            if not self._fetches:
                return
            fetch = self._fetches[0]
            page_hash = fetch.hashes[fetch.sought]
            content = fetch.in_ram.get(page_hash)
            found = None if content is None else KeptPage(page_hash, content, "ram")
            if found is None and (content := self._pending.get(page_hash)) is not None:
                found = KeptPage(page_hash, content, "disk")
        if found is None and (content := self._disk.read(page_hash)) is not None:
            found = KeptPage(page_hash, content, "disk")
        with self._changed:
            if fetch.ended:
                return
            if found is not None:
                fetch.found.append(found)
                fetch.sought += 1
                if found.tier == "disk":
                    self._ahead_bytes += found.content.nbytes
            # By turns, so that a prompt of which nothing is here waits for no long one.
            self._fetches.rotate(-1)
            if found is None or fetch.sought == len(fetch.hashes):
                fetch.ended = True
                self._fetches.remove(fetch)
                if self.writes:
                    self._touches.append(fetch.hashes[: fetch.sought][::-1])
        self._wake()

    def _delete_all(self) -> None:
        self._distrusts = False
        self._disk.delete_all()

    def _delete_one(self) -> None:
        self._disk.delete(self._deletions.popleft())

    def _touch_some(self) -> None:
        self._disk.touch(self._touches.popleft())

    def _write_one(self) -> None:
        with self._changed:
            if not self._pending:
                return
            page_hash, content = self._pending.popitem(last=False)
            self._written_now = page_hash
        try:
            written = self._disk.write(page_hash, content)
        finally:
            with self._changed:
                self._written_now = None
                self._changed.notify_all()
        with self._changed:
            if written:
                self.written_bytes += content.nbytes
