"""Waitress around the application: binding, the loop's thread and closing."""

import logging
import os
import resource
import threading
import time
from contextlib import suppress
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from api.error_handlers import Application
from api.slots import GenerationSlots, answered_at_once, reserved_threads
from api.waitress_bodies import BodyMemory
from api.waitress_channel import Channel
from api.waitress_listener import Listener
from api.waitress_parser import Limits
from runtime.errors import SettingsError
from runtime.settings import Settings

MAX_HEADER_BYTES = 64 * 1024
CONNECTIONS_PER_THREAD = 8
"""Idle keep-alive connections cost no thread, so more may be open than are answered at once."""
DESCRIPTORS_LEFT = 64
"""File descriptors that connections leave to the rest of the process."""
LOOP_SECONDS = 1.0
"""Interval at which the loop looks for overdue requests if nothing else wakes it."""
FLUSH_SECONDS = 2.0
LOOK_SECONDS = 0.05

log = logging.getLogger("rocmforge.api")


class Server:
    """An HTTP server and its thread. The constructor binds; `start` begins to answer.

    Owned by the thread that makes it. Raises SettingsError where the address or the
    threads cannot be had.
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        self._map: dict[int, Any] = {}
        slots = GenerationSlots.of_server(settings)
        threads = slots.count + reserved_threads(answered_at_once(settings))
        self._dispatcher = ThreadedTaskDispatcher()
        self._limits = limits_of(settings)
        try:
            adjustments = Adjustments(
                host=settings.host,
                port=settings.port,
                connection_limit=connection_limit(threads),
                # Reading on while a request runs is how a closed connection is seen.
                channel_request_lookahead=1,
                max_request_header_size=MAX_HEADER_BYTES,
                clear_untrusted_proxy_headers=True,
                ident="rocmforge",
            )
            listeners = [
                Listener(
                    self._limits,
                    app,
                    map=self._map,
                    dispatcher=self._dispatcher,
                    adj=adjustments,
                    sockinfo=address,
                )
                for address in adjustments.listen
            ]
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map)
            raise SettingsError(
                f"{settings.host} port {settings.port} cannot be listened on "
                f"({getattr(error, 'strerror', None) or error}); stop the other program or choose "
                "another address with --host and --port"
            ) from None
        try:
            self._dispatcher.set_thread_count(threads)
        except RuntimeError:
            wasyncore.close_all(self._map)
            self._dispatcher.set_thread_count(0)
            raise SettingsError(
                f"the system does not allow the {threads} threads that the server takes; lower "
                "--max-connections"
            ) from None
        self._trigger = listeners[0].trigger
        self.host = settings.host
        self.port: int = listeners[0].effective_port
        """The bound port, also if the settings ask for any (0)."""
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """URL of the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def busy(self) -> bool:
        """Whether any request is being answered."""
        channels = [one for one in list(self._map.values()) if isinstance(one, Channel)]
        return any(channel.busy for channel in channels)

    @property
    def running(self) -> bool:
        """Whether its thread runs; without it no request is answered."""
        return self._thread.is_alive()

    @property
    def held_body_bytes(self) -> int:
        """Bytes of requests' bodies that are held now."""
        return self._limits.memory.held_bytes

    def start(self) -> None:
        """Answer requests, in threads of its own."""
        self._thread.start()

    def close(self) -> None:
        """Give the last answers a moment to be sent, then close every connection."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while self.busy and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if not self.running:
            return
        # Sockets belong to the loop's thread, so it closes them; its loop ends with the last one.
        # An answer may wake it before we do; then the trigger is closed, but not our copy of it.
        wake = os.dup(self._trigger.trigger)
        with self._trigger.lock:
            self._trigger.thunks.append(self._close_all)
        with suppress(BrokenPipeError):
            os.write(wake, b"x")
        os.close(wake)
        self._thread.join()
        self._dispatcher.shutdown(timeout=FLUSH_SECONDS)

    def _run(self) -> None:
        try:
            # select() ends at 1024 descriptors.
            wasyncore.loop(timeout=LOOP_SECONDS, use_poll=True, map=self._map)
        except Exception:
            log.exception("the HTTP server cannot go on")

    def _close_all(self) -> None:
        for one in list(self._map.values()):
            one.handle_close() if isinstance(one, Channel) else one.close()


def limits_of(settings: Settings) -> Limits:
    """Limits of one request, and of all together; a body of the maximum size always fits."""
    memory = BodyMemory(max(settings.max_held_body_bytes, settings.max_body_bytes))
    return Limits(settings.max_body_bytes, settings.receive_timeout, memory)


def connection_limit(threads: int) -> int:
    """Maximum number of open connections: some per thread, within the system's limit."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_PER_THREAD * threads
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, descriptors - DESCRIPTORS_LEFT))
