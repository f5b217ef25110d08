"""Binding, loading behind the open port, and the graceful end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from waitress.trigger import trigger

from api.app import create_app
from api.server import Server
from api.services import Services
from runtime.errors import SettingsError
from runtime.settings import Settings
from tests.api.serving import SECONDS, Serving, eventually

SERVE = """
import sys, threading
from pathlib import Path
from api.app import create_app
from api.holder import ServedModel
from api.server import serve
from api.services import Services
from runtime.engine import Engine
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.api.serving import HeldSession

prepared, gguf, drain = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
settings = Settings(port=0, cache_tokens=1024, threads=1, max_connections=8, drain_timeout=drain)
services = Services(settings=settings)

def load():
    session = HeldSession(Session(prepared, settings=settings))
    session.hold()
    # Steps go on when the test says so.
    threading.Thread(target=lambda: sys.stdin.readline() and session.let_go(), daemon=True).start()
    engine = Engine(session, end_of_generation=frozenset(), settings=settings, observer=services)
    engine.start()
    return ServedModel("tiny", engine, Tokenizer.from_gguf(GGUFFile.open(gguf)))

serve(create_app(services), services, load=load, announce=lambda line: print(line, flush=True))
print("ended", flush=True)
"""


class Process:
    """A server in a process of its own, whose steps wait until `let_go`."""

    def __init__(self, prepared: Path, gguf: Path, drain_seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(prepared), str(gguf), str(drain_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.answers: list[requests.Response] = []
        eventually(lambda: requests.get(self.url + "/ready", timeout=SECONDS).ok)

    def start_request(self) -> threading.Thread:
        body: dict[str, Any] = {"prompt": "hello", "max_tokens": 3}

        def post() -> None:
            with suppress(requests.ConnectionError):  # where the server ends first
                answer = requests.post(self.url + "/generate", json=body, timeout=SECONDS)
                self.answers.append(answer)

        client = threading.Thread(target=post)
        client.start()
        eventually(lambda: self.requests() == 1)
        return client

    def requests(self) -> int:
        checks = requests.get(self.url + "/health", timeout=SECONDS).json()["checks"]
        return int(checks["requests"]["active"])

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def drains(self) -> bool:
        return requests.get(self.url + "/ready", timeout=SECONDS).status_code == 503


class Start:
    """Starts processes and ends those that a test left."""

    def __init__(self, prepared: Path, gguf: Path) -> None:
        self._paths = prepared, gguf
        self.started: list[Process] = []

    def __call__(self, drain_seconds: float) -> Process:
        self.started.append(Process(*self._paths, drain_seconds))
        return self.started[-1]


@pytest.fixture
def start(prepared: Path, tiny_gguf: Path) -> Iterator[Start]:
    starter = Start(prepared, tiny_gguf)
    yield starter
    for one in starter.started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(start: Start, number: signal.Signals) -> None:
    server = start(SECONDS)
    client = server.start_request()
    server.process.send_signal(number)
    eventually(server.drains)
    body = {"prompt": "hello"}
    assert requests.post(server.url + "/generate", json=body, timeout=SECONDS).status_code == 503
    server.let_go()
    client.join()
    out, err = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0
    assert out == "ended\n"
    assert server.answers[0].json()["finish_reason"] == "length"
    logged = [json.loads(line) for line in err.splitlines()]
    assert logged[0]["message"] == f"listening on {server.url}"
    assert logged[-1]["message"] == "stopped"


def test_a_request_that_outlives_the_drain_is_failed_and_answered(start: Start) -> None:
    server = start(0.2)
    client = server.start_request()
    server.process.send_signal(signal.SIGTERM)
    eventually(server.drains)
    threading.Timer(0.5, server.let_go).start()
    client.join()
    assert server.answers[0].status_code == 500
    assert "shutting down" in server.answers[0].json()["error"]
    server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0


def test_a_second_signal_ends_at_once(start: Start) -> None:
    server = start(SECONDS)
    client = server.start_request()
    server.process.send_signal(signal.SIGINT)
    eventually(server.drains)
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 128 + signal.SIGINT
    client.join()
    assert server.answers == []


def test_closing_while_answers_wake_the_loop_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pull = trigger._physical_pull

    def pull_late(self: trigger) -> None:
        time.sleep(0.01)  # time for the loop to run what was asked for
        pull(self)

    monkeypatch.setattr(trigger, "_physical_pull", pull_late)
    for _ in range(3):
        settings = Settings(port=0)
        server = Server(create_app(Services(settings=settings)), settings)
        server.start()
        waking = threading.Thread(target=wake_until_closed, args=(server,))
        waking.start()
        server.close()
        waking.join()


def wake_until_closed(server: Server) -> None:
    with suppress(OSError):
        while True:
            os.write(server._trigger.trigger, b"x")


def test_a_port_that_is_taken_is_a_clear_error(serving: Serving) -> None:
    taken = Settings(port=serving.server.port)
    with pytest.raises(SettingsError, match=rf"127\.0\.0\.1 port {taken.port} .*--port"):
        Server(create_app(Services(settings=taken)), taken)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    settings = Settings(host=host, port=0)
    with pytest.raises(SettingsError, match="--host"):
        Server(create_app(Services(settings=settings)), settings)


def test_closing_frees_the_port(settings: Settings) -> None:
    services = Services(settings=Settings(port=0, home=settings.home, max_connections=1))
    server = Server(create_app(services), services.settings)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as idle:
        assert requests.get(server.url + "/health", timeout=SECONDS).ok
        server.close()
        assert idle.recv(1) == b""
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url + "/health", timeout=SECONDS)
