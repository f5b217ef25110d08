"""Send a fuzzed request to a live server, and say what is wrong with its answer."""

import http.client
import json
import re
import socket
from dataclasses import dataclass

from tests.fuzz.http_requests import Sent
from tests.live.server import LiveServer
from tests.waiting import SECONDS

SECRETS = re.compile(rb"Traceback|File \"|site-packages|\.py\b|/home/|/tmp/|/work/|0x[0-9a-f]{9,}")
"""Text that no client may see: exceptions and the server's paths."""
FULL = 503
OF_HTTP_ITSELF = (501, 505)
"""A transfer coding or a version of HTTP that is not served: only bytes on the wire ask for it."""


@dataclass(frozen=True)
class Answer:
    """A status, 0 where the server closed without one; type and whole body."""

    status: int
    kind: str = ""
    body: bytes = b""
    retry_after: str | None = None


class Client:
    """One kept connection to a server, opened again where it was closed. Owned by one thread."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None

    def answer(self, sent: Sent) -> Answer:
        """Send and read to the end of the answer."""
        if sent.raw:
            return self._answer_raw(sent)
        for kept in (self._connection, None):
            connection = kept or http.client.HTTPConnection(
                self._server.host, self._server.port, timeout=SECONDS
            )
            self._connection = connection
            try:
                headers = {name: value.encode("latin-1") for name, value in sent.headers}
                connection.request(sent.method, sent.target, sent.body or None, headers)
                return self._read(connection.getresponse())
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if kept is None:
                    raise
                # The server may close a kept connection at any time.
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, response: http.client.HTTPResponse) -> Answer:
        body = response.read()
        if response.will_close:
            self.close()
        kind = (response.getheader("Content-Type") or "").partition(";")[0]
        return Answer(response.status, kind, body, response.getheader("Retry-After"))

    def _answer_raw(self, sent: Sent) -> Answer:
        with socket.create_connection((self._server.host, self._server.port), SECONDS) as wire:
            try:
                wire.sendall(sent.body)
                wire.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: wire.recv(1 << 16), b""))
            except ConnectionError:
                return Answer(0)
        found = re.match(rb"HTTP/1\.[01] (\d{3})", received)
        return Answer(int(found.group(1)) if found else 0, "", received)


def fault(sent: Sent, answer: Answer) -> str | None:
    """Return what is wrong with an answer, or None."""
    if answer.status >= 500 and not (
        (answer.status == FULL and answer.retry_after is not None)
        or (sent.raw and answer.status in OF_HTTP_ITSELF)
    ):
        return f"status {answer.status}: {answer.body[:500]!r}"
    if answer.status == 0 and not sent.raw:
        return "no answer"
    told = SECRETS.search(answer.body)
    # GET /models names files, as documented; no error does.
    if answer.status >= 400 and told and told.group() not in sent.body:
        return f"the answer tells {told.group()!r}: {answer.body[:500]!r}"
    if sent.method == "HEAD":
        return f"HEAD has a body: {answer.body[:100]!r}" if answer.body and not sent.raw else None
    if answer.kind == "text/event-stream":
        return _stream_fault(answer.body)
    if answer.kind == "application/json" and (answer.body or sent.method != "OPTIONS"):
        return _json_fault(answer)
    return None


def _json_fault(answer: Answer) -> str | None:
    try:
        given = json.loads(answer.body, parse_constant=_no_constant)
    except ValueError as error:
        return f"not JSON ({error}): {answer.body[:500]!r}"
    told = given.get("error") if isinstance(given, dict) else None
    if answer.status >= 400 and not told:
        return f"{answer.status} without an error: {answer.body[:500]!r}"
    return None


def _stream_fault(body: bytes) -> str | None:
    """Whole events of JSON, none of them a failure."""
    if not body.endswith(b"\n\n"):
        return f"a stream ends inside an event: {body[-100:]!r}"
    for event in body.split(b"\n\n"):
        data = event.removeprefix(b"data: ")
        if not event.startswith(b"data: ") or data == b"[DONE]":
            continue
        try:
            given = json.loads(data, parse_constant=_no_constant)
        except ValueError as error:
            return f"an event is not JSON ({error}): {event[:500]!r}"
        if given.get("finish_reason") == "failed" or "error" in given:
            return f"a stream fails: {event[:500]!r}"
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
