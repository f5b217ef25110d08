"""The events of a request whose client may leave and come back for the rest."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from api.errors import StreamNotFound

WINDOW_BYTES = 1 << 20
"""Of the newest events, which one stream keeps."""
EVENT_END = b"\n\n"


class EventSource(Protocol):
    """Makes the events of a request, and holds the request until it is closed."""

    def __iter__(self) -> Iterator[bytes]:
        """Whole events, one or several at a time; nothing where there was none for a while."""

    def close(self) -> None:
        """Let go of the request; one that still runs is aborted."""


class ResumableStream:
    """The newest events of a request, numbered from 1, for one reader at a time.

    A thread of its own takes the events from the source and owns it. Any thread may call the
    methods: a lock guards what they share. Only events that the reader has taken are dropped for
    newer ones, and only while there is a reader; without room the source waits.

    The stream is over once nobody has read for `seconds`: then the request is aborted if it still
    runs, and the events are forgotten.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        seconds: float,
        owner: str | None = None,
        on_end: Callable[[], None] = lambda: None,
        window_bytes: int = WINDOW_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """owner: name of the API key that began it. on_end: called when the stream is over."""
        self.owner = owner
        self._source = source
        self._seconds = seconds
        self._on_end = on_end
        self._window_bytes = window_bytes
        self._clock = clock
        self._changed = threading.Condition()
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        """Number of events that are no longer kept: the first ones."""
        self._taken = 0
        """Number of the last event that the reader has taken."""
        self._reader = 0
        """Number of the newest reader, whether it still reads or not."""
        self._left_at: float | None = None
        """When the newest reader left; None while it reads, and before the first."""
        self._ended = False
        """Whether the last event was made."""
        self._forgotten = False

    def start(self) -> None:
        """Begin to make events. Raises RuntimeError where the system allows no more threads."""
        threading.Thread(target=self._run, name="resumable stream", daemon=True).start()

    def read(self, after: int) -> int:
        """Begin to read behind the event of this number, in the place of any earlier reader.

        Returns the reader's number. Raises StreamNotFound if the next event is no longer kept.
        """
        with self._changed:
            if self._forgotten or not self._dropped <= after <= self._newest:
                raise StreamNotFound(
                    f"the events after {after} of this stream are not kept; send the request again"
                )
            self._reader += 1
            self._taken = after
            self._left_at = None
            self._changed.notify_all()
            return self._reader

    def take(self, reader: int, seconds: float) -> bytes | None:
        """Wait for the reader's next event; nothing after `seconds` without one.

        None after the last event, and for a reader that has left or was replaced.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waits(reader), seconds)
            if not self._reads(reader):
                return None
            if self._taken == self._newest:
                return None if self._ended else b""
            self._taken += 1
            self._changed.notify_all()
            return self._events[self._taken - self._dropped - 1]

    def leave(self, reader: int) -> None:
        """End the reading; without effect for a reader that was replaced."""
        with self._changed:
            if self._reads(reader):
                self._left_at = self._clock()
                self._changed.notify_all()

    def is_last(self, number: int) -> bool:
        """Return whether the event of this number is the last, and no other comes."""
        with self._changed:
            return self._ended and not self._forgotten and number == self._newest

    def forget(self) -> bool:
        """Make the stream over if it has ended and nobody reads it; return whether it is over."""
        with self._changed:
            self._forgotten |= self._ended and self._left_at is not None
            self._changed.notify_all()
            return self._forgotten

    @property
    def _newest(self) -> int:
        return self._dropped + len(self._events)

    def _reads(self, reader: int) -> bool:
        return reader == self._reader and self._left_at is None

    def _waits(self, reader: int) -> bool:
        return self._reads(reader) and self._taken == self._newest and not self._ended

    # The rest is for the stream's own thread.

    def _run(self) -> None:
        try:
            for events in self._source:
                if not all(map(self._add, events.split(EVENT_END)[:-1])) or self._is_over():
                    break
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
                # Until then the thread that sends the events has the request's slot.
                self._wait(lambda: self._left_at is not None)
            self._source.close()
            with self._changed:
                self._wait(lambda: False)
            self._on_end()

    def _add(self, event: bytes) -> bool:
        """Add an event once there is room; return False if the stream was over before."""
        with self._changed:
            numbered = b"id: %d\n%b%b" % (self._newest + 1, event, EVENT_END)
            if not self._wait(lambda: self._make_room(len(numbered))):
                return False
            self._events.append(numbered)
            self._bytes += len(numbered)
            self._changed.notify_all()
            return True

    def _make_room(self, size: int) -> bool:
        """Drop events that the reader has taken until the bytes fit; return whether they do."""
        while self._events and self._bytes + size > self._window_bytes:
            if self._left_at is not None or self._taken == self._dropped:
                return False
            self._bytes -= len(self._events.popleft())
            self._dropped += 1
        return True

    def _wait(self, until: Callable[[], bool]) -> bool:
        """Wait with the lock held; return False if the stream was over before."""
        while not self._expire():
            if until():
                return True
            left_at = self._left_at
            self._changed.wait(None if left_at is None else left_at + self._seconds - self._clock())
        return False

    def _is_over(self) -> bool:
        with self._changed:
            return self._expire()

    def _expire(self) -> bool:
        """Return whether the stream is over; from the first time on, it stays so."""
        if self._left_at is not None and self._clock() - self._left_at >= self._seconds:
            self._forgotten = True
        return self._forgotten
