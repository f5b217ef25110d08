"""Calls a function repeatedly in a thread that survives exceptions."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("rocmforge.background")


class BackgroundLoop:
    """Calls a function repeatedly in a daemon thread, whatever it raises.

    An exception is logged once per kind (type and errno), until the function has returned again.
    The state is owned by that thread.
    """

    def __init__(
        self, name: str, body: Callable[[], None], *, seconds: float, ended: threading.Event
    ) -> None:
        """name: of the thread; seconds: between two calls; ended: set to stop the loop."""
        self._name = name
        self._body = body
        self._seconds = seconds
        self._ended = ended
        self._logged: set[tuple[type[BaseException], int | None]] = set()

    def start(self) -> threading.Thread:
        """Start a new thread."""
        thread = threading.Thread(target=self.run, name=self._name, daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """Call the function in this thread until `ended` is set."""
        while not self._ended.wait(self._seconds):
            try:
                self._body()
            except BaseException as error:  # a panic of Rust code is no Exception
                kind = type(error), getattr(error, "errno", None)
                if kind not in self._logged:
                    self._logged.add(kind)
                    log.exception("%s failed and goes on", self._name)
            else:
                self._logged.clear()


def start_once(name: str, body: Callable[[], None]) -> None:
    """Call a function once in a daemon thread; what it raises is logged."""

    def run() -> None:
        try:
            body()
        except BaseException:
            log.exception("%s failed", name)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # the system has no more threads
        log.exception("%s was not begun", name)
