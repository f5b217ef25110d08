"""Waitress around the application: binding, the loop's thread, signals and a graceful end."""

import logging
import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server

from api.errors import Application
from api.holder import ServedModel
from api.services import Services
from api.slots import GenerationSlots, reserved_threads
from api.telemetry import logs
from api.waitress_bodies import BodyMemory
from api.waitress_channel import Channel
from api.waitress_parser import Limits
from runtime.errors import SettingsError
from runtime.settings import Settings

MOST_HEADER_BYTES = 64 * 1024
CONNECTIONS_PER_THREAD = 8
"""Idle keep-alive connections cost no thread, so more may be open than are answered at once."""
DESCRIPTORS_LEFT = 64
"""File descriptors that connections leave to the rest of the process."""
FLUSH_SECONDS = 2.0
LOOK_SECONDS = 0.05

log = logging.getLogger("rocmforge.api")


class Server:
    """An HTTP server and its thread. The constructor binds; `start` begins to answer.

    Owned by the thread that makes it. Raises SettingsError where the address cannot be had.
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        self._map: dict[int, Any] = {}
        slots = GenerationSlots.of_server(settings.max_connections)
        threads = slots.count + reserved_threads(settings.max_connections)
        try:
            self._server = create_server(
                app,
                map=self._map,
                host=settings.host,
                port=settings.port,
                threads=threads,
                connection_limit=connection_limit(threads),
                # select() ends at 1024 descriptors.
                asyncore_use_poll=True,
                # Reading on while a request runs is how a closed connection is seen.
                channel_request_lookahead=1,
                max_request_header_size=MOST_HEADER_BYTES,
                clear_untrusted_proxy_headers=True,
                ident="rocmforge",
            )
        except (OSError, ValueError) as error:
            wasyncore.close_all(self._map)
            raise SettingsError(
                f"{settings.host} port {settings.port} cannot be listened on "
                f"({getattr(error, 'strerror', None) or error}); stop the other program or choose "
                "another address with --host and --port"
            ) from None
        listeners = [one for one in self._map.values() if isinstance(one, BaseWSGIServer)]
        self._limits = limits_of(settings)
        for listener in listeners:
            listener.channel_class = partial(Channel, self._limits)
        self._trigger = listeners[0].trigger
        self.host = settings.host
        self.port: int = listeners[0].effective_port
        """The port that is bound, also where the settings ask for any (0)."""
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where the server answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def busy(self) -> bool:
        """Whether any request is being answered."""
        channels = [one for one in list(self._map.values()) if isinstance(one, Channel)]
        return any(channel.busy for channel in channels)

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
        # Sockets belong to the loop's thread, so it closes them; its loop ends with the last one.
        # Under the lock, lest it closes the trigger, pulled by an answer, before we have pulled it.
        with self._trigger.lock:
            self._trigger.thunks.append(self._close_all)
            self._trigger.pull_trigger()
        self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=FLUSH_SECONDS)

    def _run(self) -> None:
        self._server.run()

    def _close_all(self) -> None:
        for one in list(self._map.values()):
            one.handle_close() if isinstance(one, Channel) else one.close()


def limits_of(settings: Settings) -> Limits:
    """What one request may take, and all together; a body of the most bytes always fits."""
    memory = BodyMemory(max(settings.max_held_body_bytes, settings.max_body_bytes))
    return Limits(settings.max_body_bytes, settings.receive_timeout, memory)


def connection_limit(threads: int) -> int:
    """Most open connections: some for each thread, but no more than the system lets us open."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_PER_THREAD * threads
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, descriptors - DESCRIPTORS_LEFT))


def serve(
    app: Application,
    services: Services,
    *,
    load: Callable[[], ServedModel] | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Call it in the main thread.

    The port is bound first and `announce` told where; then `load` runs in a thread of its own
    while /health and /ready answer. At the end running requests get `drain_timeout` seconds; a
    second signal ends the process at once.

    Raises SettingsError where the address cannot be had, and whatever `load` raises.
    """
    logs.configure(services.settings)
    server = Server(app, services.settings)
    # A SimpleQueue may be written in a signal handler, also while this thread waits in get().
    ends: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    with _signals_put_none(ends):
        server.start()
        log.info("listening on %s", server.url)
        announce(f"listening on {server.url}")
        if load is not None:
            loading = threading.Thread(
                target=_load, args=(services, load, ends), name="loading", daemon=True
            )
            loading.start()
        failure = ends.get()
        _drain(server, services)
    if failure is not None:
        raise failure


def _load(
    services: Services,
    load: Callable[[], ServedModel],
    ends: "queue.SimpleQueue[Exception | None]",
) -> None:
    try:
        model = services.holder.load(load)
    except Exception as error:
        ends.put(error)
    else:
        log.info("ready: %s", model.label)


def _drain(server: Server, services: Services) -> None:
    """Take no new work, let running requests end, then stop the engine and the server."""
    services.draining.set()
    running = services.slots.in_use
    log.info("shutting down; %d requests are running", running)
    deadline = time.monotonic() + services.settings.drain_timeout
    while services.slots.in_use and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    services.holder.stop()
    server.close()
    log.info("stopped")


@contextmanager
def _signals_put_none(ends: "queue.SimpleQueue[Exception | None]") -> Iterator[None]:
    """Within it, the first SIGTERM or SIGINT puts None; the second ends the process."""
    seen = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)
        seen = True
        ends.put(None)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
