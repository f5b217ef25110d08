"""With keys on, a request, its text and its pages are those of the key that began it."""

import threading
from typing import Any

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually

ALICE = {"x-api-key": "the-key-of-alice-0000"}
BOB = {"x-api-key": "the-key-of-bob-000000"}
LONG = "hello world " * 40


@pytest.fixture
def shared(serve: Serve) -> Serving:
    """A server with two keys."""
    keys = f"alice={ALICE['x-api-key']},bob={BOB['x-api-key']}"
    return serve(api_keys=keys)


def known_tokens(serving: Serving, headers: dict[str, str], **fields: Any) -> int:
    """Tokens of the prompt that the server says it knew."""
    answer = serving.post(
        "/v1/completions",
        headers=headers,
        json={"prompt": LONG, "max_tokens": 1, **fields},
    )
    details = answer.json()["usage"]["prompt_tokens_details"]
    return int(details["cached_tokens"])


def test_a_request_is_shown_to_the_key_that_began_it(shared: Serving) -> None:
    body = {"prompt": "hello", "max_tokens": 3}
    answer = shared.post("/generate", json=body, headers=ALICE).json()
    path = f"/status/{answer['request_id']}"
    assert shared.get(path, headers=ALICE).json() == answer
    assert shared.get(path, headers=BOB).status_code == 404
    assert shared.get(path).status_code == 401


def test_others_can_neither_list_nor_cancel_it(shared: Serving) -> None:
    shared.session.hold()
    answers: list[Any] = []
    client = threading.Thread(
        target=lambda: answers.append(
            shared.post("/generate", json={"prompt": "a", "max_tokens": 3}, headers=ALICE).json()
        )
    )
    client.start()
    eventually(lambda: len(shared.services.requests.running("alice")) == 1)
    (listed,) = shared.get("/requests", headers=ALICE).json()["requests"]
    assert shared.get("/requests", headers=BOB).json() == {"requests": []}
    assert shared.post(f"/cancel/{listed['request_id']}", headers=BOB).status_code == 404
    shared.session.let_go()
    client.join()
    assert [answer["finish_reason"] for answer in answers] == ["length"]


def test_a_kept_response_is_continued_by_its_key_alone(shared: Serving) -> None:
    first = shared.post("/v1/responses", json=_response(), headers=ALICE).json()
    path = f"/v1/responses/{first['id']}"
    assert shared.get(path, headers=BOB).status_code == 404
    continued = _response(previous_response_id=first["id"])
    assert shared.post("/v1/responses", json=continued, headers=BOB).status_code == 404
    assert shared.post("/v1/responses", json=continued, headers=ALICE).status_code == 200
    assert requests.delete(shared.url + path, headers=BOB, timeout=SECONDS).status_code == 404
    assert shared.get(path, headers=ALICE).json()["id"] == first["id"]


def _response(**fields: Any) -> dict[str, Any]:
    return {"input": "hello", "max_output_tokens": 2, **fields}


def test_pages_are_shared_within_a_key(shared: Serving) -> None:
    assert known_tokens(shared, ALICE) == 0
    assert known_tokens(shared, ALICE) > 0
    assert known_tokens(shared, BOB) == 0
    assert known_tokens(shared, BOB) > 0


def test_pages_are_shared_within_a_salt(serving: Serving) -> None:
    assert known_tokens(serving, {}, cache_salt="a") == 0
    assert known_tokens(serving, {}, cache_salt="b") == 0
    assert known_tokens(serving, {}) == 0
    for salt in ({"cache_salt": "a"}, {"cache_salt": "b"}, {}, {"cache_salt": None}):
        assert known_tokens(serving, {}, **salt) > 0


def test_a_salt_changes_no_answer(serving: Serving) -> None:
    plain, salted = (
        serving.generate(LONG, max_tokens=5, temperature=0, **salt).json()["tokens"]
        for salt in ({}, {"cache_salt": "a"})
    )
    assert plain == salted


def test_known_tokens_can_be_hidden(serve: Serve) -> None:
    serving = serve(hide_cached_tokens=True)
    assert known_tokens(serving, {}) == known_tokens(serving, {}) == 0
    messages = [{"role": "user", "content": LONG}]
    for _ in range(2):
        usage = serving.post("/v1/messages", json={"messages": messages, "max_tokens": 1}).json()[
            "usage"
        ]
        assert usage["cache_read_input_tokens"] == 0
    assert serving.model.engine.statistics().prefix_hit_tokens > 0


def test_every_generating_answer_has_a_handle_beside_the_id(serving: Serving) -> None:
    answer = serving.generate(max_tokens=2)
    handle = answer.headers["X-Request-Handle"]
    assert len(handle) == 32
    assert serving.get(f"/status/{handle}").json() == answer.json()
    assert serving.post(f"/cancel/{handle}").json() == answer.json()
    with serving.stream(max_tokens=2) as stream:
        assert stream.headers["X-Request-Handle"] != handle
    assert serving.get(f"/status/{'0' * 32}").status_code == 404
    assert "X-Request-Handle" not in serving.get("/health").headers
