"""Waitress' listener, which waits if the system has no more descriptors."""

import errno
import logging
import time
from functools import partial
from typing import Any

from waitress.server import TcpWSGIServer

from api.waitress_channel import Channel
from api.waitress_parser import Limits

PAUSE_SECONDS = 1.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("rocmforge.api")


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """Takes connections at one address. Owned by the loop's thread."""

    def __init__(self, limits: Limits, *arguments: Any, **options: Any) -> None:
        self.channel_class = partial(Channel, limits)
        self._paused_until = 0.0
        super().__init__(*arguments, **options)

    def accept(self) -> Any:
        """The next connection, or None.

        Where the process has no descriptor or memory left, the same connection would be offered
        again at once and without end, so it is left waiting for a moment.
        """
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            log.warning("no connection can be taken now: %s", error.strerror)
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            return None

    def readable(self) -> bool:
        """Whether to look for connections; called at least once a second."""
        return bool(super().readable()) and time.monotonic() >= self._paused_until
