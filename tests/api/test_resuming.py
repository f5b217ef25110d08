"""A client that comes back for the rest of its stream, over a real connection."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.api.conftest import Serve
from tests.api.raw_http import RawConnection, with_headers
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually

GREEDY = {"prompt": "hello", "max_tokens": 12, "temperature": 0}
BODIES: dict[str, dict[str, Any]] = {
    "/generate/stream": GREEDY,
    "/v1/completions": {**GREEDY, "n": 2, "stream": True},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 12,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "/v1/responses": {"input": "hello", "max_output_tokens": 12, "temperature": 0, "stream": True},
    "/v1/messages": {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 12,
        "temperature": 0,
        "stream": True,
    },
}
VARIES = re.compile(
    rb'"(?:request_id|created|created_at|completed_at)":\d+|(?:cmpl|resp|msg)_?-?[0-9a-f]+'
)
ID = re.compile(rb"id: (\d+)\n")


def resumable(serving: Serving, path: str = "/generate/stream", **options: Any) -> Any:
    """A stream that can be resumed, open."""
    headers = {"X-Resume-Seconds": "60", **options.pop("headers", {})}
    body = options.pop("json", BODIES[path])
    return serving.post(path, json=body, headers=headers, stream=True, **options)


def rest(
    serving: Serving, handle: str, after: int | None = None, key: dict[str, str] | None = None
) -> Any:
    """What is left of a stream, open."""
    last = {} if after is None else {"Last-Event-ID": str(after)}
    return serving.get(f"/streams/{handle}", headers={**last, **(key or {})}, stream=True)


def events(answer: requests.Response) -> Iterator[bytes]:
    """The events of a stream, without comments."""
    pending = b""
    for piece in answer.iter_content(chunk_size=1):
        pending += piece
        if pending.endswith(b"\n\n"):
            if not pending.startswith(b":"):
                yield pending
            pending = b""


def same(parts: list[bytes]) -> bytes:
    """The bytes of events without ids and what differs between two equal requests."""
    return VARIES.sub(b"", ID.sub(b"", b"".join(parts)))


@pytest.fixture
def repeating(serve: Serve) -> Serving:
    """A server that answers equal requests equally, whatever it has in its cache."""
    return serve(hide_cached_tokens=True)


@pytest.mark.parametrize("path", BODIES)
@hypothesis_settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, 6), max_size=6))
def test_however_a_stream_is_cut_its_parts_are_the_whole(
    repeating: Serving, path: str, cuts: list[int]
) -> None:
    with repeating.post(path, json=BODIES[path], stream=True) as uncut:
        whole = list(events(uncut))
    received: list[bytes] = []
    answer = resumable(repeating, path)
    handle = answer.headers["X-Request-Handle"]
    for cut in cuts:
        with answer:
            received += islice(events(answer), cut)
        answer = rest(repeating, handle, len(received))
        assert answer.ok
    with answer:
        received += events(answer)
    assert [int(ID.findall(event)[0]) for event in received] == list(range(1, len(whole) + 1))
    assert same(received) == same(whole)


def test_a_request_goes_on_without_its_client(serving: Serving) -> None:
    serving.session.hold()
    with resumable(serving) as answer:
        assert answer.headers["X-Resume-Seconds"] == "60"
        handle = answer.headers["X-Request-Handle"]
    serving.session.let_go()
    eventually(lambda: serving.get(f"/status/{handle}").json()["finished"])
    eventually(lambda: serving.services.slots.in_use == 0, "the slot is held")
    assert serving.get(f"/status/{handle}").json()["finish_reason"] == "length"
    with rest(serving, handle) as answer:
        assert len(list(events(answer))) == GREEDY["max_tokens"]


def test_after_the_last_event_there_is_no_content(serving: Serving) -> None:
    with resumable(serving) as answer:
        handle = answer.headers["X-Request-Handle"]
        count = len(list(events(answer)))
    with rest(serving, handle, count - 1) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert len(list(events(answer))) == 1
    for _ in range(2):
        assert rest(serving, handle, count).status_code == 204


def test_the_headers_come_before_the_first_token(serving: Serving) -> None:
    serving.session.hold()
    with RawConnection(serving) as connection:
        body = b'{"prompt":"hello"}'
        length = f"Content-Length: {len(body)}"
        path = "/generate/stream"
        connection.send(with_headers(path, "Host: x", length, "X-Resume-Seconds: 9") + body)
        received = b""
        while b": ping\n\n" not in received:
            received += connection.socket.recv(4096)
    assert re.search(rb"X-Request-Handle: [0-9a-f]{32}\r\n", received)


@pytest.mark.parametrize("asked", ["0.05", "60"])
def test_it_is_aborted_where_nobody_comes_back(serve: Serve, asked: str) -> None:
    serving = serve(resume_seconds=0.05)
    serving.session.hold()
    with serving.awaiting_aborts(1), resumable(serving, headers={"X-Resume-Seconds": asked}) as it:
        handle = it.headers["X-Request-Handle"]
        assert it.headers["X-Resume-Seconds"] == "0.05"
        serving.session.wait_for_step()
    serving.session.let_go()
    eventually(lambda: serving.services.slots.in_use == 0)
    eventually(lambda: serving.get(f"/status/{handle}").json()["finished"])
    assert serving.get(f"/status/{handle}").json()["finish_reason"] == "cancelled"
    assert rest(serving, handle).status_code == 404


def test_it_can_be_cancelled_while_its_client_is_away(serving: Serving) -> None:
    serving.session.hold()
    with resumable(serving) as answer:
        handle = answer.headers["X-Request-Handle"]
        serving.session.wait_for_step()
    assert serving.post(f"/cancel/{handle}").ok
    serving.session.let_go()
    with rest(serving, handle) as answer:
        assert b'"finish_reason":"cancelled"' in list(events(answer))[-1]


@pytest.mark.parametrize(
    ("path", "headers", "changes"),
    [
        ("/generate/stream", {}, {}),
        ("/generate/stream", {"X-Resume-Seconds": "0"}, {}),
        ("/generate/stream", {"X-Resume-Seconds": "9"}, {"resume_seconds": 0.0}),
        ("/generate/stream", {"X-Resume-Seconds": "9"}, {"resume_bytes": 0}),
        ("/api/generate", {"X-Resume-Seconds": "9"}, {}),
    ],
)
def test_a_stream_that_cannot_be_resumed_is_as_ever(
    serve: Serve, path: str, headers: dict[str, str], changes: dict[str, Any]
) -> None:
    serving = serve(**changes)
    with serving.post(path, json=GREEDY, headers=headers, stream=True) as answer:
        assert answer.status_code == 200
        assert "X-Resume-Seconds" not in answer.headers
        handle = answer.headers["X-Request-Handle"]
        assert b"id: " not in answer.content
    assert rest(serving, handle).status_code == 404


@pytest.mark.parametrize("asked", ["soon", "-1", "1e9", "nan", "٣"])
def test_a_time_that_is_none_is_refused(serving: Serving, asked: str) -> None:
    headers = {"X-Resume-Seconds": asked.encode()}
    answer = serving.post("/generate/stream", json=GREEDY, headers=headers)
    assert answer.status_code == 400
    assert "X-Resume-Seconds" in answer.json()["error"]
    assert serving.services.slots.in_use == 0


@pytest.mark.parametrize("last", ["x", "-1", "1.5"])
def test_an_id_that_is_no_number_is_refused(serving: Serving, last: str) -> None:
    with resumable(serving) as answer:
        handle = answer.headers["X-Request-Handle"]
        refused = serving.get(f"/streams/{handle}", headers={"Last-Event-ID": last})
        assert refused.status_code == 400


def test_events_that_never_were_are_not_found(serving: Serving) -> None:
    with resumable(serving) as answer:
        handle = answer.headers["X-Request-Handle"]
        assert rest(serving, handle, 1000).status_code == 404
        assert len(list(events(answer))) == GREEDY["max_tokens"], "its reader goes on"
    assert rest(serving, "0" * 32).status_code == 404


def test_only_the_key_that_began_it_resumes_it(serve: Serve) -> None:
    alice, bob = {"x-api-key": "the-key-of-alice-0000"}, {"x-api-key": "the-key-of-bob-000000"}
    serving = serve(api_keys=f"alice={alice['x-api-key']},bob={bob['x-api-key']}")
    with resumable(serving, headers=alice) as answer:
        handle = answer.headers["X-Request-Handle"]
    assert rest(serving, handle).status_code == 401
    assert rest(serving, handle, key=bob).status_code == 404
    with rest(serving, handle, key=alice) as answer:
        assert len(list(events(answer))) == GREEDY["max_tokens"]


def test_a_new_connection_takes_the_place_of_the_old(serving: Serving) -> None:
    serving.session.hold()
    with resumable(serving) as old, rest(serving, old.headers["X-Request-Handle"]) as new:
        assert list(events(old)) == []
        serving.session.let_go()
        assert len(list(events(new))) == GREEDY["max_tokens"]


def test_head_says_whether_there_is_a_stream_and_its_reader_goes_on(serving: Serving) -> None:
    with resumable(serving) as answer:
        path = serving.url + "/streams/" + answer.headers["X-Request-Handle"]
        head = requests.head(path, timeout=SECONDS)
        assert (head.status_code, head.headers["Content-Type"]) == (200, "text/event-stream")
        assert len(list(events(answer))) == GREEDY["max_tokens"]
    assert requests.head(path + "0", timeout=SECONDS).status_code == 404
