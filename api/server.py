"""Waitress around the application: binding, the loop's thread, signals and a graceful end."""

import faulthandler
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeAlias

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from api.errors import Application
from api.holder import ServedModel
from api.services import Services
from api.slots import GenerationSlots, answered_at_once, reserved_threads
from api.telemetry import logs
from api.waitress_bodies import BodyMemory
from api.waitress_channel import Channel
from api.waitress_listener import Listener
from api.waitress_parser import Limits
from runtime.errors import EngineUnavailable, RocmForgeError, SettingsError
from runtime.settings import Settings

MOST_HEADER_BYTES = 64 * 1024
CONNECTIONS_PER_THREAD = 8
"""Idle keep-alive connections cost no thread, so more may be open than are answered at once."""
DESCRIPTORS_LEFT = 64
"""File descriptors that connections leave to the rest of the process."""
LOOP_SECONDS = 1.0
"""How often the loop looks for what is overdue, where nothing else wakes it."""
FLUSH_SECONDS = 2.0
LOOK_SECONDS = 0.05
END_LOOK_SECONDS = 0.2
LAST_RESORT_SECONDS = 60.0
"""Longest that the end may take beyond the drain: engines stop and answers are sent in less."""

log = logging.getLogger("rocmforge.api")


_Ends: TypeAlias = "queue.SimpleQueue[BaseException | None]"
"""Why to end: None for a signal."""


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
                max_request_header_size=MOST_HEADER_BYTES,
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
    def running(self) -> bool:
        """Whether its thread runs; nobody is answered any more without it."""
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
    ready: Callable[[ServedModel], None] | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or the engine's death, then drain. Call it in the main thread.

    The port is bound first and `announce` told where; then `load` runs in a thread of its own
    while /health and /ready answer, and `ready` is told of the model. At the end running requests
    get `drain_timeout` seconds; a second signal ends the process at once. An engine that hangs is
    not waited for: its clients are told, and the process ends here with status 1.

    Raises SettingsError where the address cannot be had, EngineUnavailable where the engine has
    died, RocmForgeError where the HTTP server's own thread has ended, and whatever `load` raises.
    """
    logs.configure(services.settings)
    server = Server(app, services.settings)
    # A SimpleQueue may be written in a signal handler, also while this thread waits in get().
    ends: _Ends = queue.SimpleQueue()
    with _signals_put_none(ends):
        server.start()
        log.info("listening on %s", server.url)
        announce(f"listening on {server.url}")
        if load is not None:
            loading = threading.Thread(
                target=_load, args=(services, load, ready, ends), name="loading", daemon=True
            )
            loading.start()
        failure = _wait_for_end(ends, services, server)
        has_stopped = _drain(server, services)
    if not has_stopped:
        _leave()
    if failure is None and _has_died(services):
        failure = _death()
    if failure is not None:
        raise failure


def _wait_for_end(ends: _Ends, services: Services, server: Server) -> BaseException | None:
    """Wait for a reason to end; None for a signal.

    It looks again and again, since a signal does not always wake this thread: the system may give
    it to one that is just being made.
    """
    while not _has_died(services):
        if not server.running:
            return RocmForgeError(
                "the HTTP server has ended; the log says why, start the server again"
            )
        with suppress(queue.Empty):
            return ends.get(timeout=END_LOOK_SECONDS)
    return _death()


def _has_died(services: Services) -> bool:
    """Whether the engine of the served model is dead, which only a new process mends."""
    model = services.holder.model
    return model is not None and model.engine.failure is not None


def _death() -> EngineUnavailable:
    return EngineUnavailable("the engine has died; the log says why, start the server again")


def _load(
    services: Services,
    load: Callable[[], ServedModel],
    ready: Callable[[ServedModel], None] | None,
    ends: _Ends,
) -> None:
    try:
        model = services.holder.load(load)
        if services.draining.is_set():
            model.engine.stop()
            return
        log.info("ready: %s", model.label)
        if ready is not None:
            ready(model)
    except BaseException as error:
        log.error("the model cannot be served: %s", error)
        ends.put(error)


def _drain(server: Server, services: Services) -> bool:
    """Take no new work, let running requests end, then stop the engine and the server.

    False where the engine does not end.
    """
    services.draining.set()
    running = services.slots.in_use
    log.info("shutting down; %d requests are running", running)
    timeout = services.settings.drain_timeout
    # Ends the process whatever hangs, also where no Python runs any more.
    faulthandler.dump_traceback_later(
        min(timeout + LAST_RESORT_SECONDS, threading.TIMEOUT_MAX), exit=True
    )
    deadline = time.monotonic() + timeout
    while services.slots.in_use and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    log.info("stopping the engine")
    has_stopped = services.holder.stop()
    server.close()
    log.info("stopped")
    faulthandler.cancel_dump_traceback_later()
    return has_stopped


def _leave() -> NoReturn:
    """End the process with no look at its threads: one that hangs in C would meet its teardown."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(1)


@contextmanager
def _signals_put_none(ends: _Ends) -> Iterator[None]:
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
