"""Whether the client of a request still waits for its answer."""

import threading
from collections.abc import Callable

import falcon

from api.errors import ClientGone

WATCH_CLIENT = "rocmforge.watch_client"
"""Key of the WSGI environment: calls a function as soon as the client disconnects (see server)."""


class Client:
    """The client of one request. The server's thread marks it as gone; any thread may read."""

    def __init__(self, request: falcon.Request) -> None:
        self._watch: Callable[[Callable[[], None]], None] = request.env.get(WATCH_CLIENT, _never)
        self._gone = threading.Event()
        self._watch(self._gone.set)

    def expect_waiting(self, tokens: int = 0) -> None:
        """Raise ClientGone if the client has disconnected; called during tokenization."""
        if self._gone.is_set():
            raise ClientGone("the client has gone")

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Set the function that is called when the client disconnects, or at once if it has."""
        self._watch(callback)


def _never(client_gone: Callable[[], None]) -> None:
    """Replaces WATCH_CLIENT if the server cannot detect a disconnect."""
