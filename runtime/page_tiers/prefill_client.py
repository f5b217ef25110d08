"""Prompts that this process lets another one compute."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.files import expect_own_folder
from runtime.page_tiers.handover import DONE, Prompt, send

MOST_ASKED = 64
"""Prompts computed elsewhere at once; each has a thread that waits."""
PATIENCE_SECONDS = 120.0
"""A process that takes longer for a prompt is not waited for."""
REST_SECONDS = 60.0
"""Time in which it is then not asked, so that it delays no further prompts."""

log = logging.getLogger("rocmforge.page_tiers")


class AskedPrompt:
    """A prompt that another process computes. Any thread may read it."""

    def __init__(self) -> None:
        self.ended = False
        """Whether its pages are written, or nobody writes them."""
        self.connection: socket.socket | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """Tell the other process that nobody wants it any more."""
        self.is_cancelled = True
        if (connection := self.connection) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class PrefillClient:
    """Asks the process that listens at a path. Owned by the engine thread.

    Each prompt has a thread, which only waits. Where the other process is gone, hangs or refuses,
    the prompt is computed here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = threading.Semaphore(MOST_ASKED)
        self._was_there = True
        self._rests_until = 0.0
        """time.monotonic() from which on it is asked."""
        self.asked = 0
        """Number of prompts that the other process has computed."""

    def ask(
        self, tokens: Sequence[int], salt: bytes, wake: Callable[[], None]
    ) -> AskedPrompt | None:
        """Let the full pages of a prompt be computed; None if none can be. Calls `wake` then."""
        if time.monotonic() < self._rests_until or not self._places.acquire(blocking=False):
            return None
        asked, prompt = AskedPrompt(), Prompt(tuple(tokens), salt)

        def wait() -> None:
            try:
                self._wait(asked, prompt)
            finally:
                self._places.release()
                asked.ended = True
                wake()

        try:
            threading.Thread(target=wait, name="prefill", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._places.release()
            return None
        return asked

    def _wait(self, asked: AskedPrompt, prompt: Prompt) -> None:
        try:
            expect_own_folder(self._path.parent)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(PATIENCE_SECONDS)
                connection.connect(str(self._path))
                asked.connection = connection
                if asked.is_cancelled:  # before there was a connection to end
                    return
                send(connection, prompt)
                if connection.recv(1) == DONE:
                    self.asked += 1
                self._was_there = True
        except OSError as error:
            if isinstance(error, TimeoutError):
                self._rests_until = time.monotonic() + REST_SECONDS
            if self._was_there:
                log.warning("prompts are computed here: no process at %s (%s)", self._path, error)
            self._was_there = False
