"""Two servers behind nginx are renewed, restarted and killed under load: docs/fleet.md."""

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.conversion.convert import convert
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.live.nginx import free_port, needs_nginx, nginx
from tests.live.server import LiveServer, gauge, options_of
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

pytestmark = [pytest.mark.slow, needs_nginx]

CLIENTS = 6
SHORT, LONG = 40, 1000
"""Tokens of answers."""


class Fleet:
    """Two servers of one home, and nginx in front of them. Owned by the test's thread."""

    def __init__(self, folder: Path, gguf: Path) -> None:
        self._folder, self._gguf = folder, gguf
        self._settings = Settings(home=folder / "home")
        self.ports = [free_port(), free_port()]
        self.publish()
        self.servers = [self.start(index) for index in range(2)]
        for server in self.servers:
            server.wait_until_ready()

    def publish(self) -> None:
        """Make the model's next version current."""
        registry = Registry(self._settings)
        staging = registry.new_staging("tiny", "test")
        registry.publish(staging, convert(Source(self._gguf), staging, "tiny"))

    def start(self, index: int) -> LiveServer:
        """Start a server on its port."""
        home = self._folder / f"server {index}"
        home.mkdir(exist_ok=True)
        options = options_of(8192, "--port", str(self.ports[index]))
        return LiveServer("tiny", home, *options, home=self._settings.home)

    def restart(self, index: int) -> None:
        """Start a server that has ended, and wait until it takes requests."""
        self.servers[index] = self.start(index)
        self.servers[index].wait_until_ready()

    def version(self, index: int) -> int:
        """The version that a server serves."""
        health = requests.get(f"{self.servers[index].url}/health", timeout=SECONDS).json()
        found: int = health["checks"]["model"]["version"]
        return found

    def started(self, index: int) -> int:
        """Number of requests that a server has taken since its start."""
        metrics = requests.get(f"{self.servers[index].url}/metrics", timeout=SECONDS).text
        return gauge(metrics, "rocmforge_requests_started_total")


class Stream(threading.Thread):
    """A streamed answer, and how it ended: `whole`, `cut`, `refused`, or what was wrong."""

    def __init__(self, url: str, session: str, max_tokens: int) -> None:
        super().__init__(daemon=True)
        self._url, self._session, self._max_tokens = url, session, max_tokens
        self.begun = threading.Event()
        """Set with the first token, or at the end."""
        self.text = ""
        self.end = "running"

    def run(self) -> None:
        try:
            self.end = self._ask()
        except requests.ConnectionError:  # nginx has closed the connection without an end
            self.end = "cut"
        except requests.exceptions.ChunkedEncodingError:
            self.end = "cut"
        finally:
            self.begun.set()

    def _ask(self) -> str:
        body: dict[str, Any] = {"prompt": "hello", "max_tokens": self._max_tokens, "temperature": 0}
        with requests.post(
            f"{self._url}/v1/completions",
            json={**body, "stream": True},
            headers={"X-Session-Id": self._session},
            stream=True,
            timeout=SECONDS,
        ) as answer:
            if answer.status_code == 502 and answer.json()["error"]["code"] == "bad_gateway":
                return "refused"
            if answer.status_code != 200:
                return f"{answer.status_code} {answer.text}"
            for line in answer.iter_lines():
                if line == b"data: [DONE]":
                    return "whole"
                if line.startswith(b"data: "):
                    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    self.text += event["choices"][0]["text"]
                    self.begun.set()
        return "ended without a word"


class Load:
    """Clients that stream one short answer after another. Any thread may look at the counts."""

    def __init__(self, url: str, expected: str) -> None:
        self._url, self._expected = url, expected
        self._stopped = threading.Event()
        self._sessions = count()
        self._lock = threading.Lock()
        self.ends: Counter[str] = Counter()
        self._clients = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            stream = Stream(self._url, f"client {next(self._sessions)}", SHORT)
            stream.run()
            right = stream.end != "whole" or stream.text == self._expected
            with self._lock:
                self.ends[stream.end if right else "another text"] += 1

    def go_on(self) -> None:
        """Return when every client could end an answer that it began after now."""
        before = self.ends["whole"]
        eventually(lambda: self.ends["whole"] >= before + 2 * CLIENTS)

    def stop(self) -> None:
        self._stopped.set()
        for client in self._clients:
            client.join()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, write_tiny_llama(tmp_path / "tiny.gguf", context=2 * LONG))
    yield fleet
    for server in fleet.servers:
        server.end()


@contextmanager
def load(url: str) -> Iterator[Load]:
    alone = Stream(url, "alone", SHORT)
    alone.run()
    assert alone.end == "whole"
    running = Load(url, alone.text)
    try:
        running.go_on()
        yield running
    finally:
        running.stop()


def session_of(url: str, fleet: Fleet, index: int) -> str:
    """A session that nginx sends to a server, while nobody else asks."""
    for number in count():
        before = fleet.started(index)
        Stream(url, f"of {number}", 1).run()
        if fleet.started(index) > before:
            return f"of {number}"
    raise AssertionError


def begun(url: str, session: str) -> Stream:
    """A long stream whose first token has come."""
    stream = Stream(url, session, LONG)
    stream.start()
    stream.begun.wait()
    return stream


def test_no_request_is_lost_but_those_of_a_killed_server(fleet: Fleet, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", fleet.ports) as url:
        sessions = [session_of(url, fleet, index) for index in range(2)]
        with load(url) as running:
            fleet.publish()
            eventually(lambda: [fleet.version(index) for index in range(2)] == [2, 2])
            running.go_on()
            assert running.ends.keys() == {"whole"}

            for index, server in enumerate(fleet.servers):
                long = begun(url, sessions[index])
                server.process.send_signal(signal.SIGTERM)
                eventually(lambda server=server: not ready(server))  # type: ignore[misc]
                assert server.process.wait(SECONDS) == 0
                long.join()
                running.go_on()
                fleet.restart(index)
                running.go_on()
                assert fleet.started(index) > 0
                assert (long.end, set(running.ends)) == ("whole", {"whole"})

            long = begun(url, sessions[0])
            fleet.servers[0].process.kill()
            long.join()
            running.go_on()
            assert long.end == "cut"
            assert running.ends.keys() <= {"whole", "cut"}, "what had not begun is tried again"
            assert running.ends["cut"] <= CLIENTS
            fleet.restart(0)
            running.go_on()
            assert fleet.started(0) > 0
            lost = running.ends["cut"]
        assert running.ends["cut"] == lost

        for server in fleet.servers:
            server.end()
        alone = Stream(url, "alone", SHORT)
        alone.run()
        assert alone.end == "refused"


def ready(server: LiveServer) -> bool:
    try:
        return requests.get(f"{server.url}/ready", timeout=SECONDS).ok
    except requests.ConnectionError:
        return False
