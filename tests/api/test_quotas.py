"""Limits of API keys: requests and tokens by the minute, and requests at the same time."""

import threading
from typing import Any

import msgspec
import pytest
import requests

from api.errors import RateLimited
from api.key_file import add_key
from api.keys import Key
from api.quotas import Quotas
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import eventually


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(**limits: int) -> Key:
    return msgspec.structs.replace(Key("alice", ()), **limits)


def refused(quotas: Quotas, of: Key) -> int:
    """Seconds after which a refused request may come again."""
    with pytest.raises(RateLimited) as error:
        quotas.enter(of)
    return error.value.retry_after


def test_requests_of_a_minute_come_back_one_by_one() -> None:
    clock = Clock()
    quotas, alice = Quotas(clock), key(requests_per_minute=6)
    for _ in range(6):
        quotas.enter(alice)
    assert refused(quotas, alice) == 10
    clock.now += 9
    assert refused(quotas, alice) == 1
    clock.now += 1
    quotas.enter(alice)
    assert refused(quotas, alice) == 10


def test_tokens_count_at_the_end_and_are_made_up_for() -> None:
    clock = Clock()
    quotas, alice = Quotas(clock), key(tokens_per_minute=60)
    quotas.enter(alice)
    quotas.enter(alice)
    quotas.leave(alice, 50)
    quotas.leave(alice, 40)
    assert refused(quotas, alice) == 30
    clock.now += 31
    quotas.enter(alice)


def test_an_allowance_never_exceeds_its_minute() -> None:
    clock = Clock()
    quotas, alice = Quotas(clock), key(requests_per_minute=2)
    quotas.enter(alice)
    clock.now += 3600
    quotas.enter(alice)
    quotas.enter(alice)
    assert refused(quotas, alice) == 30


def test_only_running_requests_are_concurrent() -> None:
    quotas, alice = Quotas(), key(concurrent_requests=1)
    quotas.enter(alice)
    assert refused(quotas, alice) == 1
    quotas.leave(alice, 0)
    quotas.enter(alice)


def test_keys_do_not_use_each_other_s_allowance() -> None:
    quotas = Quotas()
    quotas.enter(key(requests_per_minute=1))
    quotas.enter(Key("bob", (), requests_per_minute=1))


def test_a_limit_that_is_changed_counts_at_once() -> None:
    quotas = Quotas(Clock())
    quotas.enter(key(requests_per_minute=100))
    quotas.enter(key(requests_per_minute=1))
    assert refused(quotas, key(requests_per_minute=1)) == 60


def header(settings: Settings, **limits: int) -> dict[str, str]:
    return {"x-api-key": add_key(settings.keys_path, "alice", limits=limits)}


def ask(serving: Serving, path: str, headers: dict[str, str]) -> requests.Response:
    messages = [{"role": "user", "content": "hello"}]
    body = {"prompt": "hello", "messages": messages, "max_tokens": 2}
    taken = {"/v1/completions": "messages", "/generate": "messages"}.get(path, "prompt")
    del body[taken]
    return serving.post(path, json=body, headers=headers)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/generate", lambda body: body["status"] == "error"),
        ("/v1/completions", lambda body: body["error"]["code"] == "rate_limit_exceeded"),
        ("/v1/messages", lambda body: body["error"]["type"] == "rate_limit_error"),
        ("/api/chat", lambda body: "alice" in body["error"]),
    ],
)
def test_a_refusal_says_when_to_come_again_in_its_dialect(
    serve: Serve, settings: Settings, path: str, where: Any
) -> None:
    headers = header(settings, requests_per_minute=1)
    serving = serve()
    assert ask(serving, "/v1/completions", headers).status_code == 200
    answer = ask(serving, path, headers)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) in range(1, 61)
    assert where(answer.json()), answer.text


def test_tokens_of_prompt_and_answer_count(serve: Serve, settings: Settings) -> None:
    headers = header(settings, tokens_per_minute=2)
    serving = serve()
    assert ask(serving, "/v1/completions", headers).status_code == 200
    answer = ask(serving, "/v1/completions", headers)
    assert answer.status_code == 429
    assert "tokens_per_minute" in answer.json()["error"]["message"]
    assert serving.get("/v1/models", headers=headers).status_code == 200


def test_a_running_request_is_the_only_one_of_its_key(serve: Serve, settings: Settings) -> None:
    headers = header(settings, concurrent_requests=1)
    serving = serve()
    serving.session.hold()
    answers: list[int] = []
    client = threading.Thread(
        target=lambda: answers.append(ask(serving, "/generate", headers).status_code)
    )
    client.start()
    eventually(lambda: serving.services.slots.in_use == 1)
    assert ask(serving, "/generate", headers).status_code == 429
    serving.session.let_go()
    client.join()
    assert answers == [200]
    assert ask(serving, "/generate", headers).status_code == 200


def test_a_request_that_fails_gives_its_place_back(serve: Serve, settings: Settings) -> None:
    headers = header(settings, concurrent_requests=1)
    serving = serve()
    for _ in range(3):
        body = {"prompt": "hello " * 5000}
        assert serving.post("/v1/completions", json=body, headers=headers).status_code == 400
    assert serving.post("/tokenize", json={"content": "a"}, headers=headers).status_code == 200
    assert ask(serving, "/generate", headers).status_code == 200
