"""A server's life in its process: loading, signals, the drain and the exit."""

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TypeAlias

from api.error_handlers import Application
from api.served_models import ServedModel
from api.server import LOOK_SECONDS, Server
from api.service_manager import MICROSECONDS, Heartbeat, ServiceManager
from api.services import Services
from api.telemetry import logs
from runtime.background import BackgroundLoop
from runtime.errors import EngineUnavailable, RocmForgeError

END_LOOK_SECONDS = 0.2
LAST_RESORT_SECONDS = 60.0
"""Longest that the end may take beyond the drain: engines stop and answers are sent in less."""

log = logging.getLogger("rocmforge.api")

_Ends: TypeAlias = "queue.SimpleQueue[BaseException | None]"
"""Why to end: None for a signal."""


def serve(
    app: Application,
    services: Services,
    *,
    load: Callable[[], ServedModel] | None = None,
    announce: Callable[[str], None] = print,
    ready: Callable[[ServedModel], None] | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or the engine's death, then drain. Call it in the main thread.

    The port is bound first and `announce` called with the address. Then `load` runs in a thread of
    its own while /health and /ready answer, and `ready` is called with the model. At the end
    running requests get `drain_timeout` seconds; a second signal ends the process at once. An
    engine that hangs is not waited for: its clients get an error, and the process ends here with
    status 1. A model that is still loading is not waited for either; after a signal the process
    then ends here with status 0.

    A service manager hears when requests are taken, that the engines get on, and of the end.

    Raises SettingsError if the address cannot be bound, EngineUnavailable if the engine has
    died, RocmForgeError if the HTTP server's own thread has ended, and whatever `load` raises.
    """
    logs.configure(services.settings)
    server = Server(app, services.settings)
    manager = ServiceManager(services.settings.notify_socket)
    # A SimpleQueue may be written in a signal handler, also while this thread waits in get().
    ends: _Ends = queue.SimpleQueue()
    if load is not None:
        services.served.begin_loading()  # before the first request can come
    with _signals_put_none(ends):
        server.start()
        log.info("listening on %s", server.url)
        announce(f"listening on {server.url}")
        if manager:
            heartbeat = Heartbeat(services, manager)
            BackgroundLoop(
                "heartbeat", heartbeat.beat, seconds=heartbeat.seconds, ended=threading.Event()
            ).start()
        loading = threading.Thread(
            target=_load, args=(services, load, manager, ready, ends), name="loading", daemon=True
        )
        if load is not None:
            loading.start()
        failure = _wait_for_end(ends, services, server)
        longest = services.settings.drain_timeout + LAST_RESORT_SECONDS
        manager.tell(
            stopping=1,
            status="Shutting down",
            extend_timeout_usec=round(longest * MICROSECONDS),
        )
        has_stopped = _drain(server, services)
    if not has_stopped:
        _leave(1)
    if failure is None and loading.is_alive():
        _leave(0)
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
    """Whether the engine of a model is dead, which only a new process can repair."""
    loaded = [each.served.model for each in services.pool.models]
    return any(model is not None and model.engine.failure is not None for model in loaded)


def _death() -> EngineUnavailable:
    return EngineUnavailable("the engine has died; the log says why, start the server again")


def _load(
    services: Services,
    load: Callable[[], ServedModel],
    manager: ServiceManager,
    ready: Callable[[ServedModel], None] | None,
    ends: _Ends,
) -> None:
    try:
        model = services.served.load(load)
        if services.draining.is_set():
            model.stop()
            return
        log.info("ready: %s", model.label)
        manager.tell(ready=1, status=f"Serving {model.label}")
        if ready is not None:
            ready(model)
    except BaseException as error:
        log.error("the model cannot be served: %s", error)
        ends.put(error)


def _drain(server: Server, services: Services) -> bool:
    """Take no new work, let running requests end, then stop the engine and the server.

    Returns False if the engine does not end.
    """
    services.draining.set()
    running = services.slots.in_use
    log.info("shutting down; %d requests are running", running)
    timeout = services.settings.drain_timeout
    _end_after(timeout + LAST_RESORT_SECONDS)
    deadline = time.monotonic() + timeout
    while services.slots.in_use and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    has_stopped = services.pool.stop()
    server.close()
    services.close()
    log.info("stopped")
    faulthandler.cancel_dump_traceback_later()
    return has_stopped


def _end_after(seconds: float) -> None:
    """End the process at that time whatever hangs, even if no Python code runs.

    Prints where all threads are, if there is a standard error.
    """
    with suppress(RuntimeError, ValueError, OSError, AttributeError):
        faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True)


def _leave(status: int) -> NoReturn:
    """End the process with no look at its threads: one that hangs in C would meet its teardown."""
    with suppress(Exception):  # a closed or full stream must not delay the exit
        logging.shutdown()
        sys.stdout.flush()
    os._exit(status)


@contextmanager
def _signals_put_none(ends: _Ends) -> Iterator[None]:
    """Return a context in which the first SIGTERM or SIGINT puts None; the second exits."""
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
