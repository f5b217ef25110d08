"""Mixed traffic: what clients do to a server in its life, the rude ones among them."""

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from tests.live.server import LiveServer
from tests.waiting import SECONDS

WORDS = ("the", "world", "and", "hello", "once", "upon", "a", "time", "there", "was", "king")
RUDE = frozenset({"oversized", "half_open", "half_closed"})
"""Kinds whose connection the server may close without an answer."""
FULL = 503


class Traffic:
    """Clients in threads of their own, each doing one thing after another until stopped.

    Any thread may read `counts` and `faults`.
    """

    def __init__(self, server: LiveServer, clients: int, seed: int = 0) -> None:
        self._server = server
        self._stopped = threading.Event()
        self.counts: Counter[str] = Counter()
        """Actions and their counts."""
        self.faults: list[str] = []
        """Answers that were not as they had to be."""
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + i),), daemon=True)
            for i in range(clients)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End each client after what it does; raise AssertionError with the faults there were."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        assert not self.faults, f"{len(self.faults)} faults: {self.faults[:5]}"

    def _run(self, draw: random.Random) -> None:
        while not self._stopped.is_set():
            kind = draw.choice(list(KINDS))
            try:
                wrong = KINDS[kind](self._server, draw)
            except (OSError, requests.RequestException) as error:
                wrong = None if kind in RUDE else repr(error)
            with self._lock:
                self.counts[kind] += 1
                if wrong is not None:
                    self.faults.append(f"{kind}: {wrong}")


def _text(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.choice((1, 5, 20, 60))))


def _body(draw: random.Random) -> dict[str, Any]:
    greedy = {"temperature": 0}
    sampled = {"temperature": draw.choice((0.5, 1.0)), "top_p": draw.choice((0.5, 1.0))}
    return {"max_tokens": draw.choice((1, 8, 40)), **draw.choice((greedy, sampled))}


def _route_and_body(draw: random.Random) -> tuple[str, dict[str, Any]]:
    route = draw.choice(("/generate", "/v1/completions", "/v1/chat/completions"))
    if route == "/v1/chat/completions":
        return route, {"messages": [{"role": "user", "content": _text(draw)}], **_body(draw)}
    return route, {"prompt": _text(draw), **_body(draw)}


def _expect(answer: requests.Response, *statuses: int) -> str | None:
    if answer.status_code in (*statuses, FULL):
        return None
    return f"{answer.status_code} {answer.text[:300]}"


def _whole(server: LiveServer, draw: random.Random) -> str | None:
    route, body = _route_and_body(draw)
    return _expect(requests.post(server.url + route, json=body, timeout=SECONDS), 200)


def _stream_of(server: LiveServer, draw: random.Random) -> requests.Response:
    route, body = _route_and_body(draw)
    if route == "/generate":
        route = "/generate/stream"
    return requests.post(
        server.url + route, json={**body, "stream": True}, stream=True, timeout=SECONDS
    )


def _streamed(server: LiveServer, draw: random.Random) -> str | None:
    with _stream_of(server, draw) as answer:
        if answer.status_code != 200:
            return _expect(answer, 200)
        failed = [line for line in answer.iter_lines() if b'"failed"' in line or b'"error"' in line]
    return f"a stream failed: {failed[0][:300]!r}" if failed else None


def _left(server: LiveServer, draw: random.Random) -> str | None:
    """A client that goes in mid-stream."""
    with _stream_of(server, draw) as answer:
        for _, line in zip(range(draw.randint(0, 12)), answer.iter_lines(), strict=False):
            del line
        return _expect(answer, 200)


def _slow_reader(server: LiveServer, draw: random.Random) -> str | None:
    with _stream_of(server, draw) as answer:
        for _ in answer.iter_lines():
            time.sleep(draw.choice((0, 0.005, 0.02)))
        return _expect(answer, 200)


def _cancelled(server: LiveServer, draw: random.Random) -> str | None:
    body: dict[str, Any] = {"prompt": _text(draw), "max_tokens": 120, "temperature": 0}
    with requests.post(
        f"{server.url}/generate/stream", json=body, stream=True, timeout=SECONDS
    ) as answer:
        if answer.status_code != 200:
            return _expect(answer, 200)
        for line in answer.iter_lines():
            if line.startswith(b"data: "):
                number = json.loads(line.removeprefix(b"data: "))["request_id"]
                break
        ended = requests.post(f"{server.url}/cancel/{number}", timeout=SECONDS)
        for _ in answer.iter_lines():
            pass
    return _expect(ended, 200, 202)


def _asking(server: LiveServer, draw: random.Random) -> str | None:
    path = draw.choice(("/health", "/ready", "/metrics", "/traces", "/models", "/requests"))
    return _expect(requests.get(server.url + path, timeout=SECONDS), 200)


def _refused(server: LiveServer, draw: random.Random) -> str | None:
    body = draw.choice(
        (b"{", b"", b'{"prompt": 1}', b'{"prompt": "x", "temperature": 1e999}', b"\xff" * 99)
    )
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/generate", data=body, headers=headers, timeout=SECONDS)
    return _expect(answer, 400)


def _oversized(server: LiveServer, draw: random.Random) -> str | None:
    """A body above the limit: 413, or a connection that the server closes."""
    body = b'{"prompt": "' + b"x" * draw.choice((9, 40)) * (1 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{server.url}/generate", data=body, headers=headers, timeout=SECONDS)
    return _expect(answer, 413)


def _half_open(server: LiveServer, draw: random.Random) -> str | None:
    """A connection that sends part of a request and is then dropped."""
    part = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((server.host, server.port), SECONDS) as wire:
        wire.sendall(part[: draw.randint(0, len(part))])
        time.sleep(draw.choice((0, 0.01, 0.2)))
    return None


def _half_closed(server: LiveServer, draw: random.Random) -> str | None:
    """A client that sends a whole request and closes its side of the connection."""
    body = b'{"prompt": "hello", "max_tokens": 20}'
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((server.host, server.port), SECONDS) as wire:
        wire.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(1 << 16):
            pass
    return None


KINDS: dict[str, Callable[[LiveServer, random.Random], str | None]] = {
    "whole": _whole,
    "streamed": _streamed,
    "left": _left,
    "slow_reader": _slow_reader,
    "cancelled": _cancelled,
    "asking": _asking,
    "refused": _refused,
    "oversized": _oversized,
    "half_open": _half_open,
    "half_closed": _half_closed,
}
