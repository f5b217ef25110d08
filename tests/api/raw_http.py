"""Bytes to a server and its answers, without a client's kindness."""

import http.client
import json
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from api.server import Server
from tests.api.serving import Serving
from tests.waiting import SECONDS

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


class Answer(NamedTuple):
    """One answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server says that it closes the connection."""
        return (self.headers.get("Connection") or "").lower() == "close"


class RawConnection:
    """A connection of which the test says every byte."""

    def __init__(self, serving: Serving) -> None:
        self.socket = socket.create_connection(("127.0.0.1", serving.server.port), SECONDS)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; a server that has closed already is no error, its answer is still there."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """The next answer. Raises ConnectionError or http.client.HTTPException where none comes."""
        response = http.client.HTTPResponse(_Reader(self._file), method=method)  # type: ignore[arg-type]
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def ended(self) -> bool:
        """Whether the server has closed its side, with nothing more to say; waits for either."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


class _Reader:
    """Looks like a socket to http.client, and lets it close nothing."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return _Unclosed(self._file)


class _Unclosed:
    def __init__(self, file: Any) -> None:
        self._file = file

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def answer_to(serving: Serving, data: bytes) -> Answer:
    """The answer to bytes on a connection of their own."""
    with RawConnection(serving) as connection:
        connection.send(data)
        return connection.answer()


def post(body: bytes, *headers: str, path: str = "/generate") -> bytes:
    """A POST of HTTP/1.1 with its Content-Length."""
    return with_headers(path, "Host: x", f"Content-Length: {len(body)}", *headers) + body


def with_headers(path: str, *headers: str, version: str = "1.1") -> bytes:
    """The head of a POST of JSON."""
    lines = [f"POST {path} HTTP/{version}", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def open_and_send(server: Server, route: str, **fields: object) -> socket.socket:
    """A raw connection that has sent a generation request and read nothing yet."""
    body = json.dumps({"prompt": "hello", **fields}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), SECONDS)
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (route.encode(), len(body)) + body
    )
    return connection
