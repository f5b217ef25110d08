"""A failure while a request's text is made, before or after its submission, fails it alone."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from api import openai_answer
from api.resources import generate
from runtime.chat import ChatTemplate
from runtime.detokenizer import StreamDecoder
from runtime.tokenizer import Tokenizer
from tests.api.serving import Serving
from tests.faults.points import (
    OTHER_PROMPTS,
    POINTS,
    SECRET,
    VICTIM_PROMPT,
    VICTIM_SEED,
    FaultPoint,
    Hurts,
    Panic,
)
from tests.waiting import eventually

VICTIM_STOP = "the victim's own stop"
VICTIM_TEXT = "the victim"
ERRORS = (ValueError(SECRET), MemoryError(), Panic(SECRET), SystemExit(0))


@dataclass(frozen=True)
class TextPoint:
    """A function that fails for the victim."""

    name: str
    owner: Any
    function: str
    concerns: Callable[..., bool]
    is_before: bool
    """Whether it fails before the request is submitted."""


POINTS_OF_TEXT = (
    TextPoint(
        "the detokenizer",
        StreamDecoder,
        "feed",
        lambda self, token: self.stops == (VICTIM_STOP,),
        False,
    ),
    TextPoint(
        "the detokenizer's end",
        StreamDecoder,
        "flush",
        lambda self: self.stops == (VICTIM_STOP,),
        False,
    ),
    TextPoint("making a detokenizer", openai_answer, "text_decoder", lambda *_: True, True),
    TextPoint("the template", ChatTemplate, "encode", lambda *_, **__: True, True),
    TextPoint(
        "the tokenizer", Tokenizer, "encode", lambda self, text, **_: VICTIM_TEXT in text, True
    ),
)


class OtherRequests:
    """Greedy requests that run while something fails."""

    def __init__(self, serving: Serving) -> None:
        self._answers: dict[int, str] = {}

        def ask(index: int) -> None:
            body = {"prompt": OTHER_PROMPTS[index], "max_tokens": 20, "temperature": 0}
            answer = serving.post("/v1/completions", json=body)
            self._answers[index] = answer.json()["choices"][0]["text"]

        self._clients = [
            threading.Thread(target=ask, args=(index,)) for index in range(len(OTHER_PROMPTS))
        ]
        for client in self._clients:
            client.start()

    def texts(self) -> dict[int, str]:
        for client in self._clients:
            client.join()
        return self._answers


def victim(serving: Serving, *, stream: bool, chat: bool = False, tokens: bool = False) -> Any:
    """The victim's answer."""
    body: dict[str, Any] = {
        "max_tokens": 5,
        "stop": VICTIM_STOP,
        "stream": stream,
        "seed": VICTIM_SEED,
        "temperature": 0.01,
    }
    if chat:
        body["messages"] = [{"role": "user", "content": VICTIM_TEXT}]
        return serving.post("/v1/chat/completions", json=body)
    return serving.post(
        "/v1/completions", json={**body, "prompt": VICTIM_PROMPT if tokens else VICTIM_TEXT}
    )


def expect_failure(answer: requests.Response, *, in_stream: bool) -> None:
    assert SECRET not in answer.text
    if in_stream:
        assert answer.status_code == 200
        *_, error, done = [line for line in answer.text.splitlines() if line]
        assert error.startswith('data: {"error"')
        assert done == "data: [DONE]"
    else:
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"


def expect_nothing_is_left(serving: Serving) -> None:
    eventually(lambda: serving.services.slots.in_use == 0)
    eventually(lambda: serving.pages_used() == 0)
    assert serving.get("/health").status_code == 200
    assert serving.get("/ready").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("point", POINTS_OF_TEXT, ids=lambda point: point.name)
def test_a_text_that_fails_fails_alone(
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    point: TextPoint,
    error: BaseException,
    stream: bool,
) -> None:
    expected = OtherRequests(serving).texts()
    serving.session.hold()
    others = OtherRequests(serving)
    serving.session.wait_for_step()
    eventually(lambda: serving.services.slots.in_use == len(OTHER_PROMPTS))
    original = getattr(point.owner, point.function)

    def raising(*arguments: Any, **named: Any) -> Any:
        if point.concerns(*arguments, **named):
            raise error
        return original(*arguments, **named)

    if point.owner is openai_answer:  # which the other requests have passed
        eventually(lambda: len(serving.services.requests.running()) == len(OTHER_PROMPTS))
    with monkeypatch.context() as patch:
        patch.setattr(point.owner, point.function, raising)
        if not point.is_before:
            serving.session.let_go()
        answer = victim(serving, stream=stream, chat=point.name == "the template")
        expect_failure(answer, in_stream=stream and not point.is_before)
    serving.session.let_go()
    assert others.texts() == expected
    expect_nothing_is_left(serving)
    assert victim(serving, stream=stream).status_code == 200


@pytest.mark.parametrize("function", ["text_decoder", "feed"])
def test_a_stream_of_the_document_ends_as_failed(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def raising(*_: object) -> None:
        raise Panic(SECRET)

    owner: Any = generate if function == "text_decoder" else StreamDecoder
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, raising)
        answer = serving.stream(max_tokens=5)
        if function == "text_decoder":
            assert answer.status_code == 500
            assert answer.json()["status"] == "error"
        else:
            assert answer.text.count("data: ") == 1
            assert '"token":null,"text":"","finished":true,"finish_reason":"failed"' in answer.text
    expect_nothing_is_left(serving)


@pytest.mark.parametrize(
    "point", [p for p in POINTS if p.hurts in (Hurts.VICTIM, Hurts.NOBODY)], ids=lambda p: p.name
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_fails_in_the_engine_is_told_in_its_dialect(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, point: FaultPoint, stream: bool
) -> None:
    expected = OtherRequests(serving).texts()
    with monkeypatch.context() as patch:
        point.arm(patch, serving.session)
        serving.session.hold()
        others = OtherRequests(serving)
        serving.session.wait_for_step()
        serving.session.let_go()
        answer = victim(serving, stream=stream, tokens=True)
        if point.hurts is Hurts.VICTIM:
            expect_failure(answer, in_stream=stream)
        else:
            assert answer.status_code == 200
        assert others.texts() == expected
    expect_nothing_is_left(serving)
