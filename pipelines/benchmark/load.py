"""The load client: streamed completions side by side, timed as they arrive.

Client and servers share the processors, so it does little while it measures: one thread, one poll
over all sockets, a time for each read. The answers are parsed after the last of them.
"""

import selectors
import socket
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from runtime.errors import BenchmarkError

READ_BYTES = 1 << 16
LAST_EVENT = b"data: [DONE]"
TAIL_BYTES = 64
"""Size of the end of the received data that is searched for the last event."""


class CompletionRequest(msgspec.Struct, frozen=True):
    """A greedy completion of exactly `max_tokens` tokens."""

    prompt: tuple[int, ...]
    max_tokens: int


class StreamRecord(msgspec.Struct, frozen=True):
    """When one completion's tokens arrived, in nanoseconds of `time.perf_counter_ns`."""

    sent_ns: int
    event_ns: tuple[int, ...]
    """One time for each event that brought text or a token, in order."""
    prompt_tokens: int
    completion_tokens: int


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


@dataclass(slots=True)
class Stream:
    """Data sent and received by one connection, with length and time after each read."""

    request: bytes
    sent_ns: int = 0
    received: bytearray = field(default_factory=bytearray)
    read_ends: list[int] = field(default_factory=list)
    read_ns: list[int] = field(default_factory=list)

    def take(self, data: bytes, now_ns: int) -> bool:
        """Record received data; returns False when the answer is complete."""
        self.read_ns.append(now_ns)
        self.received += data
        self.read_ends.append(len(self.received))
        return bool(data) and LAST_EVENT not in self.received[-TAIL_BYTES:]


def complete(
    url: str, requests: Sequence[CompletionRequest], timeout_seconds: float = 600.0
) -> tuple[StreamRecord, ...]:
    """Send all requests at once to `POST /v1/completions` and read every stream to its end.

    All connections are open before the first request is sent. Raises BenchmarkError if a server
    refuses a request, ends a stream early, or takes longer than `timeout_seconds` over all.
    """
    address = urlsplit(url)
    deadline = time.monotonic() + timeout_seconds
    streams: list[Stream] = []
    connections: list[socket.socket] = []
    try:
        with selectors.DefaultSelector() as selector:
            for request in requests:
                connection = socket.create_connection(
                    (address.hostname, address.port), timeout_seconds
                )
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections.append(connection)
                streams.append(Stream(_encoded(address.netloc, request)))
                selector.register(connection, selectors.EVENT_READ, streams[-1])
            for stream, connection in zip(streams, connections, strict=True):
                stream.sent_ns = time.perf_counter_ns()
                connection.sendall(stream.request)
            while selector.get_map():
                ready = selector.select(max(deadline - time.monotonic(), 0))
                if not ready:
                    raise BenchmarkError(
                        f"{url} did not finish {len(streams)} completions in "
                        f"{timeout_seconds:g} seconds; see the server's log"
                    )
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(READ_BYTES)
                    if not key.data.take(data, time.perf_counter_ns()):
                        selector.unregister(key.fileobj)
    except OSError as error:
        raise BenchmarkError(f"{url} cannot be talked to: {error}; see the server's log") from None
    finally:
        for connection in connections:
            connection.close()
    return tuple(record(url, stream) for stream in streams)


def _encoded(host: str, request: CompletionRequest) -> bytes:
    body = msgspec.json.encode(
        {
            "prompt": request.prompt,
            "max_tokens": request.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def record(url: str, stream: Stream) -> StreamRecord:
    """Return the result of a finished stream. Raises BenchmarkError if it is incomplete."""
    head, _, _ = bytes(stream.received).partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].split(b" ")[1:2]
    body, ends = _body(bytes(stream.received), len(head) + 4)
    if status != [b"200"]:
        raise BenchmarkError(
            f"{url} refused a completion with status {b''.join(status).decode() or 'none'}: "
            f"{body[:300].decode(errors='replace').strip()}"
        )
    times: list[int] = []
    usage: _Usage | None = None
    position = last = 0
    for part in body.split(b"\n\n"):
        position += len(part) + 2
        if not part.startswith(b"data: ") or part.startswith(LAST_EVENT):
            continue
        try:
            event = msgspec.json.decode(part[len(b"data: ") :], type=_Event)
        except msgspec.DecodeError as error:
            raise BenchmarkError(f"{url} sent an event that cannot be read: {error}") from None
        usage = event.usage or usage
        if not event.choices:
            continue
        raw = ends[bisect_left(ends, (min(position, len(body)), 0))][1]
        last = stream.read_ns[bisect_left(stream.read_ends, raw)]
        if any(choice.text or choice.finish_reason is None for choice in event.choices):
            times.append(last)
    if not times and last:
        # Tokens that never completed a character: only the time of their end is known.
        times.append(last)
    if usage is None or not times:
        raise BenchmarkError(f"{url} ended a stream without tokens or usage; see the server's log")
    return StreamRecord(
        sent_ns=stream.sent_ns,
        event_ns=tuple(times),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _body(received: bytes, start: int) -> tuple[bytes, list[tuple[int, int]]]:
    """The body without its chunks' sizes, and (end in the body, end in `received`) of each chunk.

    Chunks as RFC 9112, section 7.1, has them; a body without them is one chunk.
    """
    if b"transfer-encoding: chunked" not in received[:start].lower():
        return received[start:], [(len(received) - start, len(received))]
    body = bytearray()
    ends: list[tuple[int, int]] = []
    while (line_end := received.find(b"\r\n", start)) > 0:
        size = int(received[start:line_end].split(b";")[0] or b"0", 16)
        if size == 0:
            break
        body += received[line_end + 2 : line_end + 2 + size]
        ends.append((len(body), line_end + 2 + size))
        start = line_end + 2 + size + 2
    return bytes(body), ends
