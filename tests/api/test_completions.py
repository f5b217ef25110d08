"""OpenAI's dialect over HTTP: completions, their streams, stop strings and the list of models."""

import json
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from runtime.detokenizer import StreamDecoder
from runtime.manifest import CheckResult, Manifest
from tests.api.conftest import Serve
from tests.api.document import code_blocks
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually

GREEDY: dict[str, Any] = {"prompt": "hello", "temperature": 0, "max_tokens": 20}


def complete(serving: Serving, **fields: Any) -> requests.Response:
    return serving.post("/v1/completions", json={**GREEDY, **fields})


def completed(serving: Serving, **fields: Any) -> dict[str, Any]:
    response = complete(serving, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def chunks(response: requests.Response) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends with [DONE]."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    lines = [line for line in response.iter_lines() if line.startswith(b"data: ")]
    assert lines.pop() == b"data: [DONE]"
    return [json.loads(line[6:]) for line in lines]


def streamed(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    body = {**GREEDY, "stream": True, **fields}
    return chunks(serving.post("/v1/completions", json=body, stream=True))


def text_of(sent: list[dict[str, Any]]) -> str:
    return "".join(choice["text"] for chunk in sent for choice in chunk["choices"])


def tokens_and_text(serving: Serving, **fields: Any) -> tuple[list[int], str]:
    """The documented route's answer to the same request."""
    answer = serving.generate(**{**GREEDY, **fields}).json()
    return answer["tokens"], answer["text"]


def test_a_completion_has_openai_s_fields(serving: Serving) -> None:
    response = serving.post("/v1/completions", json=GREEDY, headers={"X-Request-Id": "abc-1"})
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-Id"] == "abc-1"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    answer = response.json()
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert (answer["id"], answer["object"]) == ("cmpl-abc-1", "text_completion")
    assert answer["model"] == "tiny"
    (choice,) = answer["choices"]
    _, text = tokens_and_text(serving)
    assert choice == {"text": text, "index": 0, "logprobs": None, "finish_reason": "length"}
    prompt = len(serving.model.tokenizer.encode("hello"))
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 20,
        "total_tokens": prompt + 20,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_stream_has_a_chunk_for_each_token_and_the_same_text(serving: Serving) -> None:
    answer = completed(serving)
    sent = streamed(serving)
    assert len(sent) == 20
    assert text_of(sent) == answer["choices"][0]["text"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in sent] == [None] * 19 + ["length"]
    assert len({(chunk["id"], chunk["created"]) for chunk in sent}) == 1
    for chunk in sent:
        assert list(chunk) == ["id", "object", "created", "model", "choices"]


def test_a_stream_gives_its_usage_where_it_is_asked_to(serving: Serving) -> None:
    *sent, last = streamed(serving, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in sent] == [None] * 20
    assert last["choices"] == []
    assert last["usage"] == completed(serving)["usage"]


def shape(value: Any) -> Any:
    """Keys and nesting, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else None


def test_answers_have_the_shape_that_the_document_shows(serving: Serving) -> None:
    documented = [json.loads(block) for block in code_blocks("json") if "text_completion" in block]
    assert [shape(one) for one in documented] == [shape(completed(serving))]
    listed = [json.loads(block) for block in code_blocks("json") if "owned_by" in block]
    assert [shape(one) for one in listed] == [shape(serving.get("/v1/models").json())]
    (stream,) = [block for block in code_blocks("") if "[DONE]" in block]
    events = [line.removeprefix("data: ") for line in stream.split("\n\n")]
    sent = streamed(serving, max_tokens=2, stream_options={"include_usage": True})
    assert [shape(json.loads(event)) for event in events[:3]] == [shape(chunk) for chunk in sent]
    assert events[3:] == ["[DONE]", ""]


def test_a_prompt_may_be_token_ids(serving: Serving) -> None:
    tokens = serving.model.tokenizer.encode("hello")
    text = completed(serving)["choices"][0]["text"]
    for prompt in (tokens, ["hello"], [tokens]):
        assert completed(serving, prompt=prompt)["choices"][0]["text"] == text


def test_defaults_are_openai_s(serving: Serving) -> None:
    answer = completed(serving, max_tokens=None, temperature=None)
    assert answer["usage"]["completion_tokens"] == 16
    (trace,) = serving.services.traces.newest()
    attributes = trace[0].attributes or {}
    assert attributes["gen_ai.request.temperature"] == 1.0
    assert (attributes["gen_ai.request.top_p"], attributes["gen_ai.request.top_k"]) == (1.0, 0)


def test_cached_prompt_tokens_are_told(serving: Serving) -> None:
    prompt = "hello the world " * 8
    assert completed(serving, prompt=prompt)["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 0
    }
    usage = completed(serving, prompt=prompt)["usage"]
    page = serving.services.settings.page_size
    assert usage["prompt_tokens_details"]["cached_tokens"] >= page
    assert usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]


def test_an_end_token_is_a_stop_and_may_be_ignored(serve: Serve, serving: Serving) -> None:
    tokens, _ = tokens_and_text(serving)
    ends = serve(end_of_generation=frozenset({tokens[5]}))
    first = tokens.index(tokens[5]) + 1
    answer = completed(ends)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == first
    assert streamed(ends)[-1]["choices"][0]["finish_reason"] == "stop"
    assert completed(ends, ignore_eos=True) | {"id": "", "created": 0} == completed(serving) | {
        "id": "",
        "created": 0,
    }


class Stop:
    """A stop string in a greedy answer, and the text before it."""

    def __init__(self, serving: Serving) -> None:
        # Long enough for the string to lie in more than one token.
        self.tokens, self.whole = tokens_and_text(serving, max_tokens=200)
        self.string = self.whole[12:16]
        self.before = self.whole[: self.whole.index(self.string)]
        assert self.before
        self.token_count = next(
            count
            for count in range(1, 200)
            if self.string in serving.model.tokenizer.decode(self.tokens[:count])
        )


def test_a_stop_string_ends_the_text_before_it(serving: Serving) -> None:
    stop = Stop(serving)
    answer = completed(serving, max_tokens=200, stop=stop.string)
    assert answer["choices"][0] == {
        "text": stop.before,
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert answer["usage"]["completion_tokens"] == stop.token_count
    sent = streamed(serving, max_tokens=200, stop=["never seen", stop.string])
    assert text_of(sent) == stop.before
    assert sent[-1]["choices"][0]["finish_reason"] == "stop"
    # Tokens after the stop string have no chunk; the end has one of its own.
    assert len(sent) == stop.token_count + 1


@dataclass
class ControlToken:
    """A sampled answer with a control token, which does not end it."""

    fields: dict[str, Any]
    name: str
    before: str
    token_count: int


@pytest.fixture
def control(serving: Serving) -> ControlToken:
    tokenizer = serving.model.tokenizer
    for seed in range(100):
        fields: dict[str, Any] = {"max_tokens": 60, "temperature": 2.0, "top_p": 1.0, "seed": seed}
        tokens = serving.generate(**fields, top_k=1000).json()["tokens"]
        place = next((i for i, token in enumerate(tokens) if token in (1, 2)), 0)
        if place > 1:
            before = StreamDecoder(tokenizer, continues=True)
            text = "".join(map(before.feed, tokens[:place]))
            return ControlToken(fields, tokenizer.token_text(tokens[place]), text, place + 1)
    raise AssertionError("no control token came")


def test_a_stop_that_names_a_control_token_stops_at_it(
    serving: Serving, control: ControlToken
) -> None:
    fields = {**control.fields, "stop": ["never seen", control.name]}
    answer = completed(serving, prompt="hello", **fields)
    assert answer["choices"][0]["text"] == control.before
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == control.token_count
    sent = streamed(serving, prompt="hello", **fields)
    assert text_of(sent) == control.before
    assert sent[-1]["choices"][0]["finish_reason"] == "stop"


def test_generate_stops_too(serving: Serving, control: ControlToken) -> None:
    fields = {**control.fields, "top_k": 1000, "stop": control.name}
    answer = serving.generate(**fields).json()
    assert (answer["text"], answer["finish_reason"]) == (control.before, "stop")
    assert len(answer["tokens"]) == control.token_count
    lines = serving.stream(**fields).iter_lines()
    sent = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
    assert "".join(event["text"] for event in sent) == control.before
    assert [event["token"] for event in sent] == [*answer["tokens"], None]
    assert [event["finish_reason"] for event in sent[-2:]] == [None, "stop"]


def test_a_stop_string_that_never_comes_changes_nothing(serving: Serving) -> None:
    _, whole = tokens_and_text(serving)
    # The text may end inside the beginning of a stop string.
    stops = ["never seen", whole[-2:] + "\x00"]
    assert completed(serving, stop=stops)["choices"][0]["text"] == whole
    sent = streamed(serving, stop=stops)
    assert text_of(sent) == whole
    assert sent[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stopped_request_ends_at_once_and_counts_as_completed(
    serve: Serve, serving: Serving, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    stop = Stop(serving)
    stopping = serve()
    engine = stopping.model.engine
    told = threading.Event()
    finish = engine.finish

    def finish_and_tell(request_id: int) -> None:
        finish(request_id)
        told.set()

    monkeypatch.setattr(engine, "finish", finish_and_tell)
    # The step of each token up to the stop string, and no further one before the engine is told.
    stopping.session.allow(stop.token_count)
    answers: list[requests.Response] = []
    client = threading.Thread(
        target=lambda: answers.append(
            complete(stopping, max_tokens=200, stop=stop.string, stream=stream)
        )
    )
    client.start()
    assert told.wait(SECONDS)
    stopping.session.let_go()
    client.join()
    assert answers[0].status_code == 200
    # One more step may have been under way.
    assert stopping.session.steps <= stop.token_count + 1
    final = engine.statistics()
    assert (final.completed, final.cancelled, final.pages_used) == (1, 0, 0)
    assert stopping.get("/status/1").json()["finish_reason"] == "stop"
    assert stopping.services.traces.newest()
    eventually(lambda: stopping.services.slots.in_use == 0)


def test_requests_are_listed_cancelled_and_shown_like_any_other(serving: Serving) -> None:
    serving.session.hold()
    answers: list[dict[str, Any]] = []
    client = threading.Thread(target=lambda: answers.append(completed(serving, max_tokens=200)))
    client.start()
    eventually(lambda: len(serving.get("/requests").json()["requests"]) == 1)
    request_id = serving.get("/requests").json()["requests"][0]["request_id"]
    threading.Timer(0.05, serving.session.let_go).start()
    assert serving.post(f"/cancel/{request_id}").json()["finish_reason"] == "cancelled"
    client.join()
    assert answers[0]["choices"][0]["finish_reason"] == "cancelled"


def test_a_failure_is_500_and_in_a_stream_an_error_before_the_end(serving: Serving) -> None:
    serving.session.broken = True
    response = complete(serving)
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, None)
    assert "failed" in error["message"]
    (chunk,) = streamed(serving)
    assert chunk == {"error": error}
    serving.session.broken = False
    assert complete(serving).status_code == 200


def test_the_served_model_may_be_named_and_no_other(serving: Serving) -> None:
    assert completed(serving, model="tiny")["model"] == "tiny"
    response = complete(serving, model="gpt-4")
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "message": "the model gpt-4 is not served here; the one that is: tiny",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert serving.model.engine.statistics().started == 1


def test_the_served_model_is_listed(serve: Serve, serving: Serving) -> None:
    listed = serving.get("/v1/models").json()
    (model,) = listed["data"]
    of_anthropic = {"has_more": False, "first_id": "tiny", "last_id": "tiny"}
    assert listed == {"object": "list", "data": [model], **of_anthropic}
    assert {"id", "object", "created", "owned_by", "max_model_len", "task", "meta"} < set(model)
    assert (model["type"], model["display_name"]) == ("model", "tiny")
    assert datetime.fromisoformat(model["created_at"]).timestamp() == model["created"]
    assert (model["id"], model["object"]) == ("tiny", "model")
    assert serving.get("/v1/models/tiny").json() == model
    assert serving.get("/v1/models/").json() == listed
    for name in ("other", "some/other"):
        response = serving.get(f"/v1/models/{name}")
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "invalid_request_error"
    empty = serve(with_model=False)
    assert empty.get("/v1/models").json()["data"] == []
    assert empty.get("/v1/models/tiny").status_code == 500
    assert complete(empty).json()["error"]["type"] == "server_error"


def test_the_list_tells_the_quantization_and_how_far_from_exact_a_model_is(
    serve: Serve, prepared: Path
) -> None:
    serving = serve()
    (unknown,) = serving.get("/v1/models").json()["data"]
    assert (unknown["quantization"], unknown["kl_divergence"]) == (None, None)
    figures = {"prefill_divergence": 0.01, "cached_divergence": 0.02, "row_error": 9.0}
    check = CheckResult(name="logits", passed=True, summary="", figures=figures)
    manifest = msgspec.structs.replace(Manifest.read(prepared), checks=(check,))
    model = replace(serving.model, manifest=manifest)
    serving.services.served.load(lambda: model)
    (listed,) = serving.get("/v1/models").json()["data"]
    assert (listed["quantization"], listed["kl_divergence"]) == ("Q4_1", 0.02)


def test_the_list_tells_what_failures_were_accepted(serve: Serve, prepared: Path) -> None:
    serving = serve()
    assert "accepted_checks" not in serving.get("/v1/models").json()["data"][0]
    failed = CheckResult(name="logits", passed=False, summary="", measured=0.19, is_accepted=True)
    manifest = msgspec.structs.replace(Manifest.read(prepared), checks=(failed,))
    model = replace(serving.model, manifest=manifest)
    serving.services.served.load(lambda: model)
    (listed,) = serving.get("/v1/models").json()["data"]
    assert listed["accepted_checks"] == {"logits": 0.19}
    assert 'rocmforge_accepted_check{check="logits"} 0.19' in serving.get("/metrics").text


def test_the_list_tells_the_context_length_and_the_model_s_own(serve: Serve) -> None:
    for cache_tokens, context in ((0, 256), (64, 64)):
        (model,) = serve(cache_tokens=cache_tokens).get("/v1/models").json()["data"]
        assert model["max_model_len"] == context
        assert (model["meta"]["n_ctx"], model["meta"]["n_ctx_train"]) == (context, 256)


def test_slots_and_queue_are_shared_with_the_documented_routes(serve: Serve) -> None:
    serving = serve()
    serving.session.hold()
    slots = serving.services.slots
    calls = [serving.generate, lambda: complete(serving)]
    clients = [threading.Thread(target=calls[index % 2]) for index in range(slots.count)]
    for client in clients:
        client.start()
    eventually(lambda: slots.in_use == slots.count)
    assert serving.generate().status_code == 503
    refused = complete(serving)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["type"] == "server_error"
    serving.session.let_go()
    for client in clients:
        client.join()


def test_a_draining_server_refuses_in_openai_s_words(serving: Serving) -> None:
    serving.services.draining.set()
    response = complete(serving)
    assert response.status_code == 503
    assert "shutting down" in response.json()["error"]["message"]


def test_a_long_name_of_a_model_is_not_told_whole(serving: Serving) -> None:
    refused = serving.post("/v1/completions", json={"prompt": "a", "model": "m" * 100_000})
    assert refused.status_code == 404
    assert len(refused.content) < 500
