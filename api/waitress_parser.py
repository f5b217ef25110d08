"""Parses HTTP requests, within limits of their size (max_body_bytes) and time (receive_timeout).

A subclass of Waitress' parser that refuses ambiguous requests.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.receiver import FixedStreamReceiver

from api.waitress_bodies import BodiesFull, BodyBuffer, BodyMemory, ChunkedBody, InvalidChunks

MAX_LENGTH_DIGITS = 19
SLOWEST_BYTES_PER_SECOND = 16 * 1024
"""A request that arrives at least this fast is never too slow."""
FRAMING = 8
"""Most bytes of a chunked request, as a multiple of max_body_bytes; chunks of one byte take 6."""
MAX_FRAMING_BYTES = 128 * 1024
"""Bytes of chunk framing that are allowed in addition, for small limits."""
END_OF_HEAD = b"\r\n\r\n"

START_LINE = re.compile(rb"\S+ ([^ ]+) HTTP/([0-9])\.([0-9])")
# Waitress' pattern for a header is quadratic in its spaces if one of these follows them.
CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]*")


class Refusal(Exception):
    """Why a request is not read on. `code` is one of api.errors."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, and the limit of all together."""

    body_bytes: int
    receive_seconds: float
    """Time from its first bytes until the request is complete."""
    memory: BodyMemory


class RequestParser(HTTPRequestParser):  # type: ignore[misc]
    """One request as it arrives.

    Owned by the loop's thread while it arrives, then by the thread that answers it. A refused
    one is complete, and ignores further bytes.
    """

    path = ""
    error: Refusal | None = None

    def __init__(self, adjustments: Any, limits: Limits) -> None:
        super().__init__(adjustments)
        self._limits = limits
        self._head = bytearray()
        self._waiting_since = time.monotonic()

    @property
    def overdue(self) -> bool:
        """Whether the client takes too long to send it."""
        received: int = len(self._head) + self.body_bytes_received
        seconds = self._limits.receive_seconds + received / SLOWEST_BYTES_PER_SECOND
        return self._waiting_since + seconds < time.monotonic()

    def wait_anew(self) -> None:
        """Give the client its time from now on: until now it could not send."""
        self._waiting_since = time.monotonic()

    def received(self, data: bytes) -> int:
        """Take the next bytes; returns how many of them belong to this request."""
        if self.completed:
            return 0
        try:
            return self._read_body(data) if self.headers_finished else self._read_head(data)
        except Refusal as refusal:
            self.refuse(refusal)
            return len(data)

    def refuse(self, refusal: Refusal) -> None:
        """Stop reading it."""
        self.error = refusal
        self.completed = True
        self.expect_continue = False
        self.close()

    def _read_head(self, data: bytes) -> int:
        before = len(self._head)
        self._head += data
        end = self._head.find(END_OF_HEAD, max(0, before - len(END_OF_HEAD) + 1))
        most = self.adj.max_request_header_size
        if end > most or (end < 0 and len(self._head) > most):
            raise Refusal("headers_too_large", f"the request's headers are over {most} bytes")
        if end < 0:
            return len(data)
        taken = end + len(END_OF_HEAD) - before
        # Empty lines in front of a request are passed over.
        head = bytes(self._head[:end]).lstrip(b"\r\n")
        self.headers_finished = True
        if not head:
            self.empty = self.completed = True
            return taken
        self._parse(head)
        if self.chunked:
            self.body_rcv = ChunkedBody(BodyBuffer(self._limits.memory))
        elif self.content_length > self._limits.body_bytes:
            raise self._too_large
        elif self.content_length:
            buffer = BodyBuffer(self._limits.memory)
            self.body_rcv = FixedStreamReceiver(self.content_length, buffer)
        else:
            self.expect_continue = False
            self.completed = True
        return taken

    def _parse(self, head: bytes) -> None:
        """Let Waitress parse the head, once it is known to mean one thing only."""
        start, _, rest = head.partition(b"\r\n")
        target, minor = _start_line(start.rstrip())
        self.path = target.partition(b"?")[0].decode("latin-1")
        if CONTROL_CHARACTERS.search(head):
            raise Refusal("invalid_request", "a control character stands in the request's headers")
        lines = rest.split(b"\r\n") if rest else []
        if any(line.startswith((b" ", b"\t")) for line in lines):
            raise Refusal("invalid_request", "a header goes on in the next line")
        _check_framing(lines, minor)
        try:
            # An HTTP/1.2 would be read as 1.1, as RFC 9110 has it.
            self.parse_header(_with_version(start.rstrip(), min(minor, 1)) + b"\r\n" + rest)
        except TransferEncodingNotImplemented:
            raise Refusal("not_implemented", "no Transfer-Encoding but chunked is read") from None
        except ParsingError as error:
            words = str(error)[:200]
            raise Refusal("invalid_request", f"the request cannot be read: {words}") from None
        except ValueError:
            raise Refusal("invalid_request", "the address in the request is malformed") from None

    def _read_body(self, data: bytes) -> int:
        body = self.body_rcv
        try:
            taken: int = body.received(data)
        except BodiesFull:
            raise Refusal(
                "bodies_full",
                "the bodies of other requests fill the memory that there is for them; try again "
                "later",
            ) from None
        except InvalidChunks as error:
            raise Refusal("invalid_request", f"the request body cannot be read: {error}") from None
        self.body_bytes_received += taken
        most = self._limits.body_bytes
        if len(body) > most or self.body_bytes_received > FRAMING * most + MAX_FRAMING_BYTES:
            raise self._too_large
        if body.completed:
            self.completed = True
            if self.chunked:
                self.headers["CONTENT_LENGTH"] = str(len(body))
        return taken

    @property
    def _too_large(self) -> Refusal:
        most = self._limits.body_bytes
        return Refusal("body_too_large", f"the request body is larger than {most} bytes")


def _start_line(line: bytes) -> tuple[bytes, int]:
    """The target, and the minor version of HTTP/1. Raises Refusal."""
    found = START_LINE.fullmatch(line)
    if found is None:
        raise Refusal("invalid_request", "the request's first line is not HTTP/1.1's")
    target, major, minor = found.groups()
    if major != b"1":
        raise Refusal("version_not_supported", "this server speaks HTTP/1.1")
    return target, int(minor)


def _with_version(line: bytes, minor: int) -> bytes:
    return line[:-1] + b"%d" % minor


def _check_framing(lines: list[bytes], minor: int) -> None:
    """Refuse what two servers may read as two requests (RFC 9112, sections 3.2 and 6)."""
    lengths = _values(lines, b"content-length")
    encodings = _values(lines, b"transfer-encoding")
    hosts = _values(lines, b"host")
    if len(lengths) > 1 or any(len(length) > MAX_LENGTH_DIGITS for length in lengths):
        raise Refusal("invalid_request", "Content-Length must be one number of bytes")
    if encodings and lengths:
        raise Refusal("invalid_request", "send Transfer-Encoding or Content-Length, not both")
    if encodings and minor == 0:
        raise Refusal("invalid_request", "HTTP/1.0 has no Transfer-Encoding")
    if len(encodings) > 1 or b"" in encodings:
        raise Refusal("invalid_request", "Transfer-Encoding must be one word")
    if len(hosts) > 1 or (minor and not hosts) or not all(map(HOST.fullmatch, hosts)):
        raise Refusal("invalid_request", "a request of HTTP/1.1 names one host")


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of the headers of a name, which is given in lower case."""
    pairs = (line.split(b":", 1) for line in lines if b":" in line)
    return [value.strip(b" \t") for key, value in pairs if key.lower() == name]
