"""The thread that publishes KV events by ZeroMQ, and sends missed ones again."""

import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from socket import gethostname

import zmq
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from api.kv_events.log import EventLog
from api.kv_events.messages import NUMBER_BYTES, Message
from runtime.errors import SettingsError
from runtime.page_changes import PageChanges
from runtime.settings import Settings

MOST_QUEUED = 100_000
"""Messages of a replay that wait for one subscriber; more than a log has."""
MOST_REQUEST_BYTES = 1024
LAST = (b"", (-1).to_bytes(NUMBER_BYTES, "big", signed=True), b"")
"""What follows the last message of a replay."""
LINGER_MILLISECONDS = 500
"""In which the last messages leave for subscribers."""
CLOSE_SECONDS = 10.0

log = logging.getLogger("rocmforge.kv_events")


class KVEventPublisher(Collector):
    """Publishes the pages that requests may find, of every model, on one address.

    `follow`, `close` and the counts are for any thread. Sockets, log and followed engines are owned
    by the publishing thread, which sleeps until an engine or a subscriber has something for it.
    """

    def __init__(self, settings: Settings) -> None:
        """Bind the addresses of the settings. Raises SettingsError for one that cannot be had."""
        self._log = EventLog(settings.server_name or gethostname(), settings.page_size)
        self._context = zmq.Context()
        self._events = self._context.socket(zmq.PUB)
        self._replays = self._context.socket(zmq.ROUTER)
        self._replays.set(zmq.SNDHWM, MOST_QUEUED)
        self._replays.set(zmq.MAXMSGSIZE, MOST_REQUEST_BYTES)
        # A subscriber that does not read is noticed, and neither waited for nor served further.
        self._replays.set(zmq.ROUTER_MANDATORY, 1)
        self.address = self._bind(self._events, settings.kv_events, "--kv-events")
        self.replay_address = ""
        if settings.kv_events_replay:
            option = "--kv-events-replay"
            self.replay_address = self._bind(self._replays, settings.kv_events_replay, option)
        self._bell = FileIO(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+")
        self._new: queue.SimpleQueue[tuple[str, PageChanges]] = queue.SimpleQueue()
        self._followed: dict[str, PageChanges] = {}
        self._closing = False
        self._sent = self._replayed = 0
        self._thread = threading.Thread(target=self._run, name="kv-events", daemon=True)
        self._thread.start()
        log.warning(
            "the tokens of prompts are published at %s; only the router should reach it",
            self.address,
        )

    def follow(self, model: str) -> PageChanges:
        """Return where an engine of a model notes its pages; it replaces one before it."""
        changes = PageChanges(self._ring)
        self._new.put((model, changes))
        self._ring()
        return changes

    def close(self) -> None:
        """Send what is left, and end."""
        self._closing = True
        self._ring()
        self._thread.join(CLOSE_SECONDS)
        self._bell.close()

    def describe(self) -> list[Metric]:
        """Return nothing: registering needs no counts."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of one scrape."""
        for name, documentation, value in (
            ("messages", "Total number of messages with KV events that were published", self._sent),
            ("replays", "Total number of times a subscriber asked for missed ones", self._replayed),
            ("beginnings", "Total number of times the log began again", self._log.beginnings),
        ):
            yield CounterMetricFamily(f"rocmforge_kv_event_{name}", documentation, value=value)

    def _bind(self, socket: "zmq.Socket[bytes]", address: str, option: str) -> str:
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise SettingsError(
                f"{option} {address} cannot be had ({error}); name an address of this machine with "
                "a free port, such as tcp://127.0.0.1:5557"
            ) from error
        return socket.get_string(zmq.LAST_ENDPOINT)

    def _ring(self) -> None:
        """Wake the publishing thread; never waits."""
        with suppress(ValueError):  # it is closed
            self._bell.write((1).to_bytes(8, "little"))

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell, zmq.POLLIN)
        if self.replay_address:
            poller.register(self._replays, zmq.POLLIN)
        try:
            while not self._closing:
                ready = dict(poller.poll())
                self._bell.read(8)  # None where it did not ring
                self._publish()
                if self._replays in ready:
                    self._replay()
            self._publish()
        except BaseException:
            log.exception("KV events are published no more")
        finally:
            self._context.destroy(LINGER_MILLISECONDS)

    def _publish(self) -> None:
        while not self._new.empty():
            model, changes = self._new.get()
            self._followed[model] = changes
            self._send(self._log.begin(model))
        for model, changes in list(self._followed.items()):
            if changes.ended:
                del self._followed[model]
                self._send(self._log.end(model))
            elif taken := changes.take():
                self._send(self._log.change(model, taken))

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._events.send_multipart(message.frames)  # never waits: it drops
            self._sent += 1

    def _replay(self) -> None:
        """Answer one request: the messages from a number on, then LAST."""
        client, *request = self._replays.recv_multipart()
        if len(request) != 2 or request[0] or len(request[1]) != NUMBER_BYTES:
            log.warning("a request for missed KV events is no number of 8 bytes")
            return
        self._replayed += 1
        first = int.from_bytes(request[1], "big")
        try:
            for message in self._log.since(first):
                self._replays.send_multipart((client, b"", *message.frames), zmq.NOBLOCK)
            self._replays.send_multipart((client, b"", *LAST), zmq.NOBLOCK)
        except zmq.ZMQError as error:  # it is gone, or does not read
            log.warning("missed KV events were not sent to the end: %s", error)
