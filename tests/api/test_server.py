"""Binding, loading after the port is open, and the graceful shutdown."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from api import lifecycle
from api.app import create_app
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from runtime.errors import PreparationError, SettingsError
from runtime.settings import Settings
from tests.api.served_process import CLOSING_HANGS, LOADED_LATE, NO_STDERR, SIGNAL_ELSEWHERE
from tests.api.serving import Serving
from tests.faults.points import (
    POINTS,
    SECRET,
    VICTIM_PROMPT,
    VICTIM_SEED,
    FaultPoint,
    Hurts,
)
from tests.waiting import SECONDS, eventually


class Process:
    """A server in a process of its own, whose steps wait until `let_go`."""

    def __init__(
        self, prepared: Path, gguf: Path, settings: dict[str, float], fault: str = ""
    ) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.api.served_process",
                str(prepared),
                str(gguf),
                json.dumps(settings),
                fault,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.answers: list[requests.Response] = []

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def start_request(self) -> threading.Thread:
        client = self.send(prompt="hello")
        eventually(lambda: self.requests() == 1)
        return client

    def send(self, **fields: Any) -> threading.Thread:
        body: dict[str, Any] = {"max_tokens": 3, **fields}
        route = "/generate" if isinstance(body["prompt"], str) else "/v1/completions"

        def post() -> None:
            with suppress(requests.ConnectionError):  # where the server ends first
                answer = requests.post(self.url + route, json=body, timeout=SECONDS)
                self.answers.append(answer)

        client = threading.Thread(target=post)
        client.start()
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

    def __call__(
        self, drain_seconds: float = SECONDS, *, fault: str = "", **settings: float
    ) -> Process:
        settings = {"drain_timeout": drain_seconds, **settings}
        self.started.append(Process(*self._paths, settings, fault))
        if fault != LOADED_LATE:
            self.started[-1].wait_until_ready()
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
    # The process says so when the drain is over; only then the step ends.
    assert server.process.stderr is not None
    while "stopping the engine" not in server.process.stderr.readline():
        pass
    server.let_go()
    client.join()
    assert server.answers[0].status_code == 500
    assert "shutting down" in server.answers[0].json()["error"]
    server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0


def test_a_signal_ends_the_process_also_where_a_step_never_ends(start: Start) -> None:
    server = start(0.1, stall_timeout=1e-3, stop_seconds=0.1)
    client = server.start_request()
    health = server.url + "/health"
    eventually(lambda: requests.get(health, timeout=SECONDS).status_code == 503)
    server.process.send_signal(signal.SIGTERM)
    client.join()
    assert server.answers[0].status_code == 500
    assert "hangs" in server.answers[0].json()["error"]
    out, _ = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 1
    assert "ended" not in out


def test_whatever_hangs_at_the_end_ends_with_the_stacks_of_all_threads(start: Start) -> None:
    server = start(0.1, fault=CLOSING_HANGS)
    server.process.send_signal(signal.SIGTERM)
    _, err = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 1
    assert "most recent call first" in err


def test_a_server_without_standard_error_ends_as_any_other(start: Start) -> None:
    server = start(fault=NO_STDERR)
    server.process.send_signal(signal.SIGTERM)
    out, _ = server.process.communicate(timeout=SECONDS)
    assert (server.process.returncode, out) == (0, "ended\n")


def test_a_signal_that_another_thread_takes_is_not_lost(start: Start) -> None:
    """The system gives it to any thread; the main one, which waits, then is not woken."""
    server = start(fault=SIGNAL_ELSEWHERE)
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0


@pytest.mark.parametrize(
    "point", [point for point in POINTS if point.hurts is Hurts.ENGINE], ids=lambda p: p.name
)
def test_a_dead_engine_tells_its_clients_and_ends_the_process(
    start: Start, point: FaultPoint
) -> None:
    server = start(fault=point.name)
    server.let_go()
    client = server.send(prompt=VICTIM_PROMPT, seed=VICTIM_SEED)
    client.join()
    (answer,) = server.answers
    if answer.status_code != 200:  # it may have ended well before
        assert answer.status_code == 500
        assert "the engine has died" in answer.text
        assert SECRET not in answer.text
    _, err = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 1
    assert any("the engine died" in line for line in err.splitlines())


def test_a_load_that_ends_while_draining_is_not_announced(start: Start) -> None:
    server = start(fault=LOADED_LATE)
    server.process.send_signal(signal.SIGTERM)
    out, err = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0
    assert "ready" not in out
    assert not any(json.loads(line)["message"].startswith("ready") for line in err.splitlines())


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


class WakingLock:
    """The trigger's lock; when the test's thread lets go of it, the loop is woken and runs out."""

    def __init__(self, server: Server) -> None:
        self._lock = threading.Lock()
        self._server = server

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if threading.current_thread() is threading.main_thread():
            os.write(self._server._trigger.trigger, b"x")
            self._server._thread.join(SECONDS)


def test_closing_while_an_answer_wakes_the_loop_is_no_error() -> None:
    """The loop then closes its trigger before it is pulled."""
    settings = Settings(port=0)
    server = Server(create_app(Services(settings=settings)), settings)
    server._trigger.lock = WakingLock(server)
    server.start()
    server.close()
    assert not server._thread.is_alive()


def test_a_port_that_is_taken_is_a_clear_error(serving: Serving) -> None:
    taken = Settings(port=serving.server.port)
    with pytest.raises(SettingsError, match=rf"127\.0\.0\.1 port {taken.port} .*--port"):
        Server(create_app(Services(settings=taken)), taken)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    settings = Settings(host=host, port=0)
    with pytest.raises(SettingsError, match="--host"):
        Server(create_app(Services(settings=settings)), settings)


def test_threads_that_the_system_does_not_allow_are_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def start_few(thread: threading.Thread) -> None:
        if thread.name == "waitress-5":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    settings = Settings(port=0)
    with pytest.raises(SettingsError, match="--max-connections"):
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


def test_a_server_that_loads_says_so_from_its_first_answer_on(settings: Settings) -> None:
    """A proxy asks another server where one says 503, and not where it says anything else."""
    services, answers = Services(settings=msgspec.structs.replace(settings, port=0)), []

    def announce(line: str) -> None:  # the port is open, and nothing is loaded yet
        url = line.split()[-1]
        for body in ({"prompt": "a"}, {"prompt": "a", "model": "tiny"}):
            answers.append(requests.post(f"{url}/v1/completions", json=body, timeout=SECONDS))

    def load() -> ServedModel:
        raise PreparationError("it is broken")

    with pytest.raises(PreparationError):
        lifecycle.serve(create_app(services), services, load=load, announce=announce)
    assert [answer.status_code for answer in answers] == [503, 503]
