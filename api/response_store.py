"""Responses that a later request may continue."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from api.errors import ResponseNotFound

MAX_RESPONSES = 1000
MAX_SECONDS = 600.0
MAX_BYTES = 1 << 28
"""Of all conversations that are kept, as JSON."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and the conversation to its end. Immutable."""

    response: Any
    """The answer, as it was given."""
    messages: tuple[dict[str, Any], ...]
    """Messages of the conversation, without its instructions."""
    size: int
    """Bytes of the bodies that the conversation came in."""
    ended: float
    """When, in seconds of time.monotonic()."""


class ResponseStore:
    """The newest responses, for ten minutes. Any thread may call it: a lock guards it.

    `owner` is the name of the API key that a request comes with; None where keys are off.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: OrderedDict[tuple[str | None, str], StoredResponse] = OrderedDict()
        self._bytes = 0

    def add(
        self,
        name: str,
        response: Any,
        messages: tuple[dict[str, Any], ...],
        size: int,
        owner: str | None = None,
    ) -> None:
        """Keep a response; the oldest go where there are too many."""
        with self._lock:
            self._stored[owner, name] = StoredResponse(response, messages, size, time.monotonic())
            self._bytes += size
            self._drop_old()

    def get(self, name: str, owner: str | None = None) -> StoredResponse:
        """Return a response of an owner by its id. Raises ResponseNotFound."""
        with self._lock:
            self._drop_old()
            found = self._stored.get((owner, name))
        if found is None:
            raise ResponseNotFound(
                f"no response {name[:64]} is kept: responses with store are, for ten minutes; send "
                "the whole conversation as input instead"
            )
        return found

    def remove(self, name: str, owner: str | None = None) -> None:
        """Forget a response. Raises ResponseNotFound."""
        self.get(name, owner)
        with self._lock:
            if (gone := self._stored.pop((owner, name), None)) is not None:
                self._bytes -= gone.size

    def _drop_old(self) -> None:
        oldest = time.monotonic() - MAX_SECONDS
        while self._stored and (
            len(self._stored) > MAX_RESPONSES
            or self._bytes > MAX_BYTES
            or next(iter(self._stored.values())).ended < oldest
        ):
            _, gone = self._stored.popitem(last=False)
            self._bytes -= gone.size
