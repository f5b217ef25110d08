"""The server reads requests unambiguously and within limits."""

import json
import socket

import pytest

from tests.api.conftest import Serve
from tests.api.raw_http import HEALTH, RawConnection, answer_to, post, with_headers
from tests.api.serving import Serving
from tests.waiting import eventually

BODY = b'{"prompt": "hello", "max_tokens": 1}'
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(*headers: str, version: str = "1.1", path: str = "/generate") -> bytes:
    return with_headers(path, *headers, version=version)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("Host: x", f"Content-Length: {'9' * 5000}"),
        head("Host: x", "Content-Length: 99999999999999999999"),
        head("Host: x", "Content-Length: -1"),
        head("Host: x", f"Content-Length: +{len(BODY)}") + BODY,
        head("Host: x", f"Content-Length: {len(BODY)}", "Content-Length: 5") + BODY,
        head("Host: x", f"Content-Length: {len(BODY)}, {len(BODY)}") + BODY,
        head("Host: x", "Content-Length: 0x10") + BODY,
        head("Host: x", "Content-Length: ") + BODY,
        head("Host: x", CHUNKED, f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x", f"Content-Length: {len(BODY)}", CHUNKED) + CHUNKS,
        head("Host: x", CHUNKED, f"Content-Length: {len(BODY)}", version="1.0") + BODY,
        head("Host: x", CHUNKED, version="1.0") + CHUNKS,
        head("Host: x", CHUNKED, CHUNKED) + CHUNKS,
        head("Host: x", "Transfer-Encoding: ") + CHUNKS,
        head("Host: x", "Transfer-Encoding:\r\n chunked") + CHUNKS,
        head("Host: x", "X: a\r\n b", f"Content-Length: {len(BODY)}") + BODY,
        head(f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x", "Host: y", f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x, y", f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x/y", f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x", "X : y", f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x", "X: a\x00b", f"Content-Length: {len(BODY)}") + BODY,
        # Looked at with Waitress' pattern alone this would take half a minute.
        head("Host: x", f"X:{60_000 * ' '}\x00"),
        head("Host: x", "X: a\rb", f"Content-Length: {len(BODY)}") + BODY,
        head("Host: x", "X: a\nContent-Length: 3", f"Content-Length: {len(BODY)}") + BODY,
        b"GET /health\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_malformed_or_has_two_meanings_is_400_and_closes(
    serving: Serving, request_bytes: bytes
) -> None:
    with RawConnection(serving) as connection:
        connection.send(request_bytes + HEALTH)
        answer = connection.answer()
        assert answer.status == 400
        assert answer.closes
        assert json.loads(answer.body)["status"] == "error"
        # Bytes after it are never read as a request.
        assert connection.ended()
    assert serving.get("/health").ok


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head("Host: x", "Transfer-Encoding: chunked, gzip"), 501),
        (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /health HTTP/0.9\r\n\r\n", 505),
        (head("Host: x", f"X: {'y' * 70_000}"), 431),
        (b"GET /" + b"y" * 70_000, 431),
        (head("Host: x", "Content-Length: 999999999999"), 413),
        (head("Host: x", "Content-Length: 999999999999", "Expect: 100-continue"), 413),
    ],
)
def test_what_is_not_served_says_so_and_closes(
    serving: Serving, request_bytes: bytes, status: int
) -> None:
    with RawConnection(serving) as connection:
        connection.send(request_bytes)
        answer = connection.answer()
        assert (answer.status, answer.closes) == (status, True)
        assert connection.ended()


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(BODY),
        b"\r\n\r\n" + post(BODY),
        head("Host: x", CHUNKED) + CHUNKS,
        head("Host: x", CHUNKED.lower()) + CHUNKS,
        head("Host: x", CHUNKED, version="1.2") + CHUNKS,
        head("Host:", CHUNKED) + CHUNKS,
        head("Host: [::1]:8080", CHUNKED) + CHUNKS,
        head("Host: x", CHUNKED)
        + b'%X;a=b;c="d;e"\r\n%s\r\n000;x\r\nA: b\r\n\r\n' % (len(BODY), BODY),
        # Waitress passes over headers with a line below, so that none can stand for another.
        post(BODY, "Content_Length: 3", "Transfer_Encoding: chunked"),
        head(f"Content-Length: {len(BODY)}", "Connection: keep-alive", version="1.0") + BODY,
    ],
)
def test_one_meaning_is_read_and_the_next_request_too(
    serving: Serving, request_bytes: bytes
) -> None:
    for cut in (1, 7, len(request_bytes)):
        with RawConnection(serving) as connection:
            for start in range(0, len(request_bytes), cut):
                connection.send(request_bytes[start : start + cut])
            assert connection.answer().status == 200
            connection.send(HEALTH)
            assert json.loads(connection.answer("GET").body)["status"] == "healthy"


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\n\r\nhello\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;a=\x01\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"%s\r\nhello\r\n0\r\n\r\n" % (b"0" * 17),
        b"5;" + b"a" * 1100,
        b"0\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 70,
        b"0\r\nA: " + b"b" * 70_000,
    ],
)
def test_chunks_that_are_malformed_or_endless_are_400(serving: Serving, chunks: bytes) -> None:
    with RawConnection(serving) as connection:
        connection.send(head("Host: x", CHUNKED) + chunks)
        answer = connection.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert b"chunk" in answer.body
        assert connection.ended()


def test_one_byte_chunks_of_a_whole_body_are_read(serve: Serve) -> None:
    serving = serve(max_body_bytes=len(BODY))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    assert answer_to(serving, head("Host: x", CHUNKED) + chunks + b"0\r\n\r\n").status == 200


def test_framing_without_end_is_413(serve: Serve) -> None:
    serving = serve(max_body_bytes=1000)
    chunks = (b"1;" + b"x" * 1000 + b"\r\n1\r\n") * 200
    assert answer_to(serving, head("Host: x", CHUNKED) + chunks).status == 413


@pytest.mark.parametrize("times", [2, 100, 10_000])
def test_a_client_that_sends_all_of_a_body_that_is_too_large_reads_the_413(
    serve: Serve, times: int
) -> None:
    serving = serve(max_body_bytes=1000)
    body = b'{"prompt": "%s"}' % (b"x" * 1000 * times)
    length = f"Content-Length: {len(body)}"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for request in (head("Host: x", length) + body, head("Host: x", CHUNKED) + chunks):
        with RawConnection(serving) as connection:
            connection.socket.sendall(request)  # raises where the server hangs up
            answer = connection.answer()
            assert (answer.status, answer.closes) == (413, True)
            assert connection.ended()


def test_a_413_comes_before_the_body(serving: Serving) -> None:
    length = 1 + serving.services.settings.max_body_bytes
    with RawConnection(serving) as connection:
        connection.send(head("Host: x", f"Content-Length: {length}"))
        assert connection.answer().status == 413


def test_a_client_that_expects_continue_sends_its_body_then(serving: Serving) -> None:
    length = f"Content-Length: {len(BODY)}"
    with RawConnection(serving) as connection:
        connection.send(head("Host: x", length, "Expect: 100-continue"))
        assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(BODY)
        assert connection.answer().status == 200
        connection.send(head("Host: x", "Content-Length: 0", "Expect: 100-continue"))
        assert connection.answer().status == 400
        connection.send(HEALTH)
        assert connection.answer("GET").status == 200


@pytest.fixture
def half(serve: Serve) -> tuple[Serving, bytes]:
    """A server with a limit of 200,000 bytes for bodies, and most of a request of that size."""
    serving = serve(max_body_bytes=200_000, max_held_body_bytes=200_000)
    body = b'{"prompt": "%s", "max_tokens": 0}' % (b"x" * 199_960)
    whole = post(body)
    return serving, whole[:-1]


def held_bytes(serving: Serving) -> int:
    return serving.server.held_body_bytes


def test_bodies_over_all_connections_are_bounded(half: tuple[Serving, bytes]) -> None:
    serving, unfinished = half
    with RawConnection(serving) as first, RawConnection(serving) as second:
        first.send(unfinished)
        eventually(lambda: held_bytes(serving) > 130_000)
        second.send(unfinished)
        refused = second.answer()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert "memory" in json.loads(refused.body)["error"]
        # Small requests are answered all the same, and the first one goes on.
        assert serving.generate(max_tokens=1).ok
        first.send(b"}")
        assert first.answer().status == 400
    eventually(lambda: held_bytes(serving) == 0)


def test_a_client_that_goes_gives_its_bytes_back(half: tuple[Serving, bytes]) -> None:
    serving, unfinished = half
    for _ in range(3):
        with RawConnection(serving) as connection:
            connection.send(unfinished)
            eventually(lambda: held_bytes(serving) > 130_000)
        eventually(lambda: held_bytes(serving) == 0)


def test_a_body_is_let_go_of_before_its_answer(half: tuple[Serving, bytes]) -> None:
    serving, _ = half
    serving.session.hold()
    body = json.dumps({"prompt": "hello", "max_tokens": 1, "x": "y" * 150_000}).encode()
    with RawConnection(serving) as connection:
        connection.send(post(body))
        eventually(lambda: serving.model.engine.statistics().started == 1)
        assert held_bytes(serving) == 0
        serving.session.let_go()
        assert connection.answer().status == 200


def test_requests_behind_one_whose_client_goes_give_their_bytes_back(
    half: tuple[Serving, bytes],
) -> None:
    serving, unfinished = half
    serving.session.hold()
    with RawConnection(serving) as connection:
        connection.send(post(BODY))
        eventually(lambda: serving.model.engine.statistics().started == 1)
        connection.send(unfinished + b"}")
        eventually(lambda: held_bytes(serving) > 130_000)
    serving.session.let_go()
    eventually(lambda: held_bytes(serving) == 0)


@pytest.mark.parametrize("begun", [b"G", post(BODY)[:40], post(BODY)[:-1]])
def test_a_request_that_does_not_come_to_its_end_is_408(serve: Serve, begun: bytes) -> None:
    serving = serve(receive_timeout=0.05)
    with RawConnection(serving) as connection:
        connection.send(begun)
        answer = connection.answer()
        assert (answer.status, answer.closes) == (408, True)
        assert connection.ended()


def test_a_request_behind_another_has_its_time_from_when_it_may_come(serve: Serve) -> None:
    serving = serve(receive_timeout=0.05)
    serving.session.hold()
    with RawConnection(serving) as connection:
        connection.send(post(BODY) + post(BODY)[:40])
        eventually(lambda: serving.model.engine.statistics().started == 1)
        connection.send(post(BODY)[40:-1])
        serving.session.let_go()
        assert connection.answer().status == 200
        assert connection.answer().status == 408


def test_urgent_data_ends_the_connection(serving: Serving) -> None:
    with RawConnection(serving) as connection:
        connection.socket.send(b"!", socket.MSG_OOB)
        assert connection.ended()
    assert serving.get("/health").ok


def test_a_refusal_to_head_has_no_body(serving: Serving) -> None:
    with RawConnection(serving) as connection:
        connection.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
        answer = connection.answer("HEAD")
        assert (answer.status, answer.body) == (400, b"")
        assert connection.ended()
