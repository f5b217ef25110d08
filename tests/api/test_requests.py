"""Status, cancel and the list of running requests; clients that go away."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.raw_http import open_and_send
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually


def running(serving: Serving) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = serving.get("/requests").json()["requests"]
    return listed


def test_status_of_a_running_request_shows_what_there_is(serving: Serving) -> None:
    stream = serving.stream("hello", temperature=0, max_tokens=200)
    lines = (line for line in stream.iter_lines() if line.startswith(b"data: "))
    first = [json.loads(next(lines)[6:]) for _ in range(3)]
    status = serving.get(f"/status/{first[0]['request_id']}").json()
    assert status["tokens"][:3] == [event["token"] for event in first]
    stream.close()


def test_status_of_an_ended_request_is_its_answer(serving: Serving) -> None:
    answer = serving.generate(max_tokens=4).json()
    assert serving.get(f"/status/{answer['request_id']}").json() == answer


def test_cancelling_ends_a_stream_and_frees_its_pages(serving: Serving) -> None:
    serving.session.hold()
    with open_and_send(serving.server, "/generate/stream", max_tokens=200) as connection:
        eventually(lambda: len(running(serving)) == 1)
        request_id = running(serving)[0]["request_id"]
        serving.session.wait_for_step()
        unfinished = serving.post(f"/cancel/{request_id}")
        assert (unfinished.status_code, unfinished.json()["finished"]) == (200, False)
        serving.session.let_go()
        eventually(lambda: running(serving) == [])
        cancelled = serving.post(f"/cancel/{request_id}").json()
        assert (cancelled["finished"], cancelled["finish_reason"]) == (True, "cancelled")
        assert serving.pages_used() == 0
        received = b""
        while b'"finished":true' not in received:
            received += connection.recv(4096)
        assert b'"finish_reason":"cancelled"' in received
    assert serving.post(f"/cancel/{request_id}").json() == cancelled
    assert serving.get(f"/status/{request_id}").json() == cancelled
    assert running(serving) == []


def test_cancelling_an_ended_request_changes_nothing(serving: Serving) -> None:
    answer = serving.generate(max_tokens=2).json()
    assert serving.post(f"/cancel/{answer['request_id']}").json() == answer


def test_a_cancelled_synchronous_request_is_200(serving: Serving) -> None:
    answers: list[requests.Response] = []
    serving.session.hold()
    client = threading.Thread(target=lambda: answers.append(serving.generate(max_tokens=200)))
    client.start()
    eventually(lambda: len(running(serving)) == 1)
    serving.session.wait_for_step()
    eventually(lambda: running(serving) != [])  # it is listed a moment after it was submitted
    serving.post(f"/cancel/{running(serving)[0]['request_id']}")
    serving.session.let_go()
    client.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["finish_reason"] == "cancelled"


def test_cancelling_waits_for_a_step_that_ends_soon(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.resources.requests.CANCEL_SECONDS", SECONDS)
    serving.session.hold()
    client = threading.Thread(target=serving.generate, kwargs={"max_tokens": 200})
    client.start()
    serving.session.wait_for_step()
    eventually(lambda: running(serving) != [])  # it is listed a moment after it was submitted
    (entry,) = serving.services.requests.running()
    answers: list[requests.Response] = []
    cancel = threading.Thread(
        target=lambda: answers.append(serving.post(f"/cancel/{entry.generation.request_id}"))
    )
    with serving.awaiting_aborts(1):
        cancel.start()
    serving.session.let_go()
    client.join()
    cancel.join()
    assert answers[0].json()["finish_reason"] == "cancelled"


def test_cancels_leave_a_thread_to_health_however_many_they_are(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.resources.requests.CANCEL_SECONDS", SECONDS)
    serving = serve()
    serving.session.hold()
    slots = serving.services.slots
    streams = [
        threading.Thread(target=lambda: serving.stream(max_tokens=1).content)
        for _ in range(slots.count)
    ]
    for stream in streams:
        stream.start()
    eventually(lambda: len(running(serving)) == slots.count)
    serving.session.wait_for_step()
    eventually(lambda: running(serving) != [])  # it is listed a moment after it was submitted
    request_id = running(serving)[0]["request_id"]
    cancels = [
        threading.Thread(target=serving.post, args=(f"/cancel/{request_id}",)) for _ in range(6)
    ]
    for cancel in cancels:
        cancel.start()
    # All but one of them are answered at once, so the last reserved thread is free again.
    eventually(lambda: sum(cancel.is_alive() for cancel in cancels) <= 1)
    assert serving.get("/health").status_code == 200
    serving.session.let_go()
    for client in (*streams, *cancels):
        client.join()


def test_running_requests_are_found_by_the_client_s_own_name(serving: Serving) -> None:
    serving.session.hold()
    named = {"X-Request-Id": "my-request"}
    client = threading.Thread(
        target=serving.post,
        args=("/generate",),
        kwargs={"json": {"prompt": "hello", "max_tokens": 3}, "headers": named},
    )
    client.start()
    eventually(lambda: len(running(serving)) == 1)
    (entry,) = running(serving)
    assert list(entry) == [
        "request_id",
        "x_request_id",
        "state",
        "prompt_tokens",
        "generated_tokens",
        "seconds",
    ]
    assert entry["x_request_id"] == "my-request"
    assert entry["state"] in {"queued", "active"}
    serving.session.let_go()
    client.join()
    assert running(serving) == []


@pytest.mark.parametrize(("method", "route"), [("GET", "/status"), ("POST", "/cancel")])
@pytest.mark.parametrize(
    ("identifier", "status"),
    [("1", 404), ("0", 404), ("-1", 404), ("999999", 404), ("abc", 400), ("1.5", 400), ("", 404)],
)
def test_ids_that_name_no_request(
    serving: Serving, method: str, route: str, identifier: str, status: int
) -> None:
    response = requests.request(method, f"{serving.url}{route}/{identifier}", timeout=SECONDS)
    assert response.status_code == status
    assert response.json().keys() == {"error", "status"}


@contextmanager
def told_to_abort(serving: Serving) -> Iterator[list[int]]:
    """The requests that the engine is told to abort within the block."""
    told: list[int] = []
    engine = serving.model.engine
    abort = engine.abort

    def telling(request_id: int) -> None:
        abort(request_id)
        told.append(request_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "abort", telling)
        yield told


def let_go_and_count_steps(serving: Serving) -> int:
    """Steps that a held engine takes until every page is free."""
    before = serving.session.steps
    serving.session.let_go()
    eventually(lambda: serving.pages_used() == 0)
    return serving.session.steps - before


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("/generate", {}),
        ("/generate/stream", {}),
        ("/v1/completions", {}),
        ("/v1/completions", {"stop": "x"}),
        ("/v1/completions", {"stream": True}),
    ],
)
def test_a_client_that_leaves_before_its_first_token_frees_its_pages(
    serving: Serving, route: str, fields: dict[str, object]
) -> None:
    serving.session.hold()
    connection = open_and_send(serving.server, route, max_tokens=200, **fields)
    eventually(lambda: serving.pages_used() > 0)
    with told_to_abort(serving) as told:
        connection.close()
        eventually(lambda: len(told) > 0)
    assert let_go_and_count_steps(serving) <= 2
    assert serving.model.engine.statistics().cancelled == 1
    eventually(lambda: serving.services.slots.in_use == 0)


@pytest.mark.parametrize(
    ("route", "fields"), [("/generate/stream", {}), ("/v1/completions", {"stream": True})]
)
def test_a_client_that_leaves_in_mid_stream_frees_its_pages(
    serving: Serving, route: str, fields: dict[str, object]
) -> None:
    serving.session.allow(3)
    connection = open_and_send(serving.server, route, max_tokens=200, **fields)
    received = b""
    while received.count(b"data: ") < 3:
        received += connection.recv(4096)
    with told_to_abort(serving) as told:
        connection.close()
        eventually(lambda: len(told) > 0)
    assert let_go_and_count_steps(serving) <= 2
    assert serving.model.engine.statistics().cancelled == 1
    eventually(lambda: serving.services.slots.in_use == 0)


def test_a_silent_stream_sends_comments(serve: Serve) -> None:
    serving = serve(ping_seconds=0.02)
    serving.session.hold()
    with open_and_send(serving.server, "/generate/stream", max_tokens=1) as connection:
        received = b""
        while received.count(b": ping\n\n") < 2:
            received += connection.recv(4096)


def test_status_of_a_request_that_stopped_is_its_answer(serving: Serving) -> None:
    plain = serving.generate(max_tokens=12, temperature=0).json()
    stop = plain["text"][3:5]
    answer = serving.generate(max_tokens=12, temperature=0, stop=stop).json()
    assert answer["finish_reason"] == "stop"
    assert stop not in answer["text"]
    eventually(lambda: running(serving) == [])
    assert serving.get(f"/status/{answer['request_id']}").json() == answer
    assert serving.post(f"/cancel/{answer['request_id']}").json() == answer
