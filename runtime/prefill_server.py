"""Computes prompts for other processes, which read their pages from the folder that both share."""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runtime.errors import RocmForgeError
from runtime.generation import EngineRequest, Generation
from runtime.page_tiers import PageTiers
from runtime.page_tiers.handover import DONE, FAILED, has_left, listening, receive
from runtime.sampling import SamplingParameters

LOOK_SECONDS = 0.2
"""Interval at which it looks whether the other process still wants a prompt."""
RECEIVE_SECONDS = 60.0
"""Longest time in which a prompt arrives."""

log = logging.getLogger("rocmforge.page_tiers")


class PrefillServer:
    """Takes prompts at a Unix socket, each in a thread that waits for the engine.

    Any thread may close it.
    """

    def __init__(
        self,
        submit: Callable[[EngineRequest], Generation],
        abort: Callable[[int], None],
        tiers: PageTiers,
        path: Path,
    ) -> None:
        """submit, abort: the engine's. Raises OSError if the socket cannot be made."""
        self._submit = submit
        self._abort = abort
        self._tiers = tiers
        self._path = path
        self._listener = listening(path)
        self._inode = path.stat().st_ino

    def start(self) -> None:
        """Start the thread that takes connections."""
        threading.Thread(target=self._accept, name="prefill", daemon=True).start()

    def close(self) -> None:
        """Take no more prompts."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was closed, or has no descriptor left
                if self._listener.fileno() < 0:
                    return
                threading.Event().wait(LOOK_SECONDS)
                continue
            try:
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
            except RuntimeError:  # the system has no more threads
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(RECEIVE_SECONDS)
            prompt = receive(connection)
            if prompt is not None:
                greedy = SamplingParameters(temperature=0.0)
                request = EngineRequest(prompt.tokens, greedy, 0, cache_salt=prompt.salt)
                connection.sendall(DONE if self._compute(request, connection) else FAILED)

    def _compute(self, request: EngineRequest, connection: socket.socket) -> bool:
        """Whether the pages of a prompt are written, as far as they could be."""
        try:
            generation = self._submit(request)
        except RocmForgeError as error:
            log.info("a prompt of another process is refused: %s", error)
            return False
        while not generation.wait(LOOK_SECONDS):
            if has_left(connection):
                self._abort(generation.request_id)
                return False
        return generation.error is None and self._tiers.wait_until_written()
