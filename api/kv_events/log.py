"""The numbered messages from which a subscriber learns what every prefix cache holds."""

import time
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from api.kv_events.messages import (
    AllBlocksCleared,
    Batch,
    BlockRemoved,
    Event,
    Message,
    stored,
    topic_of,
)
from runtime.page_changes import Changes, FoundPage
from runtime.pages import PageHash

LEAST_BYTES = 8 * 1024 * 1024
"""Size up to which the log only grows."""
GROWTH = 4
"""The log begins again when it is so many times as long as what it says."""
MOST_PAGES = 1024
"""In a message of those that begin the log again."""


class EventLog:
    """Every message since the log began, which together say what can be found now.

    It begins with number 0, with nothing to be found. When it has grown long it begins again: with
    number 0, everything cleared and every page stored. So a subscriber that asks for all messages
    from 0 on lacks nothing, however long the server runs, and the log stays short. Owned by one
    thread.
    """

    def __init__(
        self,
        server: str,
        page_size: int,
        *,
        least_bytes: int = LEAST_BYTES,
        clock: Callable[[], float] = time.time,  # noqa: TID251
    ) -> None:
        """server: its name in topics. page_size: in tokens. clock: in seconds since 1970."""
        self._server = server
        self._page_size = page_size
        self._least_bytes = self._most_bytes = least_bytes
        self._clock = clock
        self._pages: dict[str, dict[PageHash, FoundPage]] = {}
        self._messages: list[Message] = []
        self._bytes = 0
        self.beginnings = 0
        """Number of times that it has begun again."""

    def begin(self, model: str) -> Sequence[Message]:
        """Return the messages to send when a model is loaded, or another version of it."""
        new = self.end(model)
        self._pages[model] = {}
        # Later models clear nothing: llm-d's router takes it as said of the whole server.
        return new if self._messages else [self._append(model, [AllBlocksCleared()])]

    def change(self, model: str, changes: Changes) -> Sequence[Message]:
        """Return the messages to send after a change of a model's pages."""
        pages = self._pages[model]
        found = {page_hash: page for page_hash, page in changes.items() if page is not None}
        removed = tuple(page_hash for page_hash, page in changes.items() if page is None)
        for page_hash in removed:
            del pages[page_hash]
        pages.update(found)
        events = [BlockRemoved(removed)] if removed else []
        message = self._append(model, [*events, *stored(found.items(), self._page_size)])
        return [message] if self._bytes <= self._most_bytes else self._begin_again()

    def end(self, model: str) -> Sequence[Message]:
        """Return the messages to send when a model and its pages are gone."""
        pages = self._pages.pop(model, None)
        return [self._append(model, [BlockRemoved(tuple(pages))])] if pages else []

    def since(self, number: int) -> Sequence[Message]:
        """Return the messages from a number on, which is not negative."""
        return self._messages[number:]

    def _begin_again(self) -> Sequence[Message]:
        self._messages, self._bytes = [], 0
        self.beginnings += 1
        for model in self._pages:  # before any page: llm-d's router clears the whole server
            self._append(model, [AllBlocksCleared()])
        for model, pages in self._pages.items():
            left = iter(pages.items())
            while some := list(islice(left, MOST_PAGES)):
                self._append(model, stored(some, self._page_size))
        self._most_bytes = max(self._least_bytes, GROWTH * self._bytes)
        return self._messages

    def _append(self, model: str, events: Sequence[Event]) -> Message:
        payload = msgspec.msgpack.encode(Batch(self._clock(), tuple(events)))
        message = Message(topic_of(self._server, model), len(self._messages), payload)
        self._messages.append(message)
        self._bytes += len(payload)
        return message
