"""The load client against servers on real sockets."""

import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from pipelines.benchmark.load import CompletionRequest, Stream, complete, record
from runtime.errors import BenchmarkError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"text":"a","index":0,"finish_reason":null}]}\n\n'
SILENT_TOKEN = b'data: {"choices":[{"text":"","index":0,"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"text":"","index":0,"finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"

REQUEST = CompletionRequest((1, 2, 3), 3)


@contextmanager
def answering(pieces: Sequence[bytes], resume: Callable[[int], None]) -> Iterator[str]:
    """A server that sends these bytes as they are; `resume(i)` returns when piece i may go."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            for number, piece in enumerate(pieces):
                resume(number)
                self.wfile.write(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def at_once(number: int) -> None:
    return


def cut(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


@pytest.mark.parametrize("length", [1, 7, 100, 10_000])
def test_events_are_counted_however_the_bytes_are_cut(length: int) -> None:
    events = TOKEN + SILENT_TOKEN + TOKEN + END + USAGE + DONE
    body = b"".join(map(chunk, cut(events, length))) + b"0\r\n\r\n"
    with answering(cut(HEAD + body, 50), at_once) as url:
        (found,) = complete(url, [REQUEST])
    assert len(found.event_ns) == 3
    assert (found.prompt_tokens, found.completion_tokens) == (5, 3)
    assert found.sent_ns < found.event_ns[0]


def test_a_body_without_chunks_is_read_too() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with answering([head + TOKEN + TOKEN + USAGE + DONE], at_once) as url:
        (found,) = complete(url, [REQUEST])
    assert len(found.event_ns) == 2


def test_an_event_has_the_time_of_its_own_last_byte() -> None:
    stream = Stream(b"", sent_ns=5)
    pieces = [HEAD, chunk(TOKEN[:20]), chunk(TOKEN[20:]), chunk(TOKEN + TOKEN[:9])]
    pieces += [chunk(TOKEN[9:] + USAGE + DONE)]
    more = [stream.take(piece, 10 * number) for number, piece in enumerate(pieces)]
    assert more == [True, True, True, True, False]
    assert record("", stream).event_ns == (20, 30, 40)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\ntoo long!", "status 400: too long!"),
        (HEAD + chunk(TOKEN), "without tokens or usage"),
        (HEAD + chunk(b"data: {\n\n" + DONE), "cannot be read"),
        (b"", "status none"),
    ],
)
def test_what_is_no_whole_stream_is_an_error(answer: bytes, words: str) -> None:
    with answering([answer], at_once) as url, pytest.raises(BenchmarkError, match=words):
        complete(url, [REQUEST])


def test_a_server_that_never_ends_is_given_up() -> None:
    held = threading.Event()

    def hold(number: int) -> None:
        assert number == 0 or held.wait(30)

    with answering([HEAD, DONE], hold) as url:
        with pytest.raises(BenchmarkError, match="did not finish 1 completions"):
            complete(url, [REQUEST], timeout_seconds=0.2)
        held.set()


def test_nobody_at_the_address_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="cannot be talked to"):
        complete("http://127.0.0.1:1", [REQUEST])
