"""A server without descriptors, or with a full disk, recovers without losing requests."""

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live.background_stream import streamed
from tests.live.server import LOOK_SECONDS, LiveServer, live_server, options_of
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow

BODY: dict[str, Any] = {"prompt": "hello", "max_tokens": 4, "temperature": 0}
LONG_BODY: dict[str, Any] = {**BODY, "max_tokens": 200}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with live_server(model, tmp_path, *options_of(2048)) as server:
        yield server


@contextmanager
def limited(server: LiveServer, limit: int, most: int) -> Iterator[None]:
    """The running server with another soft limit of the system, for the time of a block."""
    _, hard = before = resource.prlimit(server.process.pid, limit)
    resource.prlimit(server.process.pid, limit, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, limit, before)


def descriptors(server: LiveServer) -> set[int]:
    return {int(one.name) for one in Path(f"/proc/{server.process.pid}/fd").iterdir()}


def generated(session: requests.Session, server: LiveServer) -> str:
    answer = session.post(f"{server.url}/generate", json=BODY, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def test_without_a_descriptor_open_connections_work_and_new_ones_wait(server: LiveServer) -> None:
    whole = requests.post(f"{server.url}/generate", json=LONG_BODY, timeout=SECONDS).json()["text"]
    with requests.Session() as session, ThreadPoolExecutor(4) as pool, ExitStack() as opened:
        expected = generated(session, server)
        begun = opened.enter_context(
            requests.post(
                f"{server.url}/generate/stream", json=LONG_BODY, stream=True, timeout=SECONDS
            )
        )
        highest = max(descriptors(server))
        with limited(server, resource.RLIMIT_NOFILE, highest + 1):
            while set(range(highest + 1)) - descriptors(server):
                opened.enter_context(socket.create_connection((server.host, server.port), SECONDS))
                time.sleep(LOOK_SECONDS)
            # The system completes these connections; the server cannot take them yet.
            waiting = [pool.submit(generated, requests.Session(), server) for _ in range(4)]
            for path in ("/health", "/metrics", "/requests", "/traces"):
                assert session.get(server.url + path, timeout=SECONDS).status_code == 200
            large = json.dumps({"prompt": "x" * (2 << 20)})
            refused = session.post(
                f"{server.url}/generate",
                data=large,
                headers={"Content-Type": "application/json"},
                timeout=SECONDS,
            )
            assert refused.status_code == 400, refused.text
            # What reads folders says that it cannot, without a path of the server.
            models = session.get(f"{server.url}/models", timeout=SECONDS)
            assert str(server.log.parent) not in models.text or models.status_code == 200
            assert [generated(session, server) for _ in range(3)] == [expected] * 3
            events = [json.loads(line[6:]) for line in begun.iter_lines() if line[:6] == b"data: "]
            assert "".join(event["text"] for event in events) == whole
            assert not any(each.done() for each in waiting)
            assert "no connection can be taken now" in server.log_text()
        assert [each.result(SECONDS) for each in waiting] == [expected] * 4
    assert requests.get(f"{server.url}/ready", timeout=SECONDS).status_code == 200


def test_a_loop_that_cannot_go_on_ends_the_process_which_says_so(server: LiveServer) -> None:
    with requests.Session() as session:
        assert generated(session, server)
        # poll() refuses to look at more descriptors than there may be.
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (0, 0))
        assert server.process.wait(SECONDS) == 1
    assert "the HTTP server has ended" in server.log_text().splitlines()[-1]


def test_more_connections_than_there_are_descriptors_for_are_served_in_turn(
    tmp_path: Path,
) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))

    with live_server(model, tmp_path, *options_of(1024), before_exec=few) as server:
        idle = [socket.create_connection((server.host, server.port), SECONDS) for _ in range(150)]
        for connection in idle:
            connection.close()
        with requests.Session() as session:
            assert generated(session, server)
        server.wait_until_idle()


def test_a_full_disk_stops_no_request_and_no_log_line_ends_the_server(server: LiveServer) -> None:
    expected = streamed(server, 20)
    with limited(server, resource.RLIMIT_FSIZE, 0), requests.Session() as session:
        # Nothing can be written any more, the log's lines neither.
        before = server.log_text()
        assert streamed(server, 20) == expected
        assert generated(session, server)
        large = json.dumps({"prompt": "x" * (2 << 20)})
        headers = {"Content-Type": "application/json"}
        url = f"{server.url}/generate"
        answer = session.post(url, data=large, headers=headers, timeout=SECONDS)
        assert answer.status_code == 400
        assert session.get(f"{server.url}/traces", timeout=SECONDS).status_code == 200
        assert server.log_text() == before
    assert streamed(server, 20) == expected
    server.wait_until_idle()
    assert len(server.log_text()) > len(before)


def test_a_preparation_on_a_full_disk_says_so_and_succeeds_when_there_is_room(
    tmp_path: Path,
) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    command = [
        sys.executable,
        "-m",
        "rocmforge",
        "prepare",
        str(model),
        "--home",
        str(tmp_path / "home"),
    ]

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    failed = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SECONDS, preexec_fn=full
    )
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("rocmforge: ")
    listed = subprocess.run(
        [*command[:3], "models", "--home", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert "tiny" not in listed.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert again.returncode == 0, again.stderr
