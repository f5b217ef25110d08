"""Several answers to one HTTP request: lists of prompts, and `n` answers to each."""

import json
import threading
from collections import defaultdict
from typing import Any

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.raw_http import RawConnection, post
from tests.api.serving import Serving
from tests.waiting import eventually

PROMPTS = ["hello", "the world", "and hello"]
GREEDY: dict[str, Any] = {"prompt": PROMPTS, "temperature": 0, "max_tokens": 20}
DRAWN: dict[str, Any] = {"temperature": 1.5, "top_k": 0, "max_tokens": 12, "seed": 40}
LONG = "hello the world " * 8 + "and hello"


def complete(serving: Serving, **fields: Any) -> requests.Response:
    return serving.post("/v1/completions", json=fields)


def choices(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    response = complete(serving, **fields)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["choices"]
    return found


def texts(serving: Serving, **fields: Any) -> list[str]:
    return [choice["text"] for choice in choices(serving, **fields)]


def chunks(response: requests.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    lines = [line for line in response.iter_lines() if line.startswith(b"data: ")]
    assert lines.pop() == b"data: [DONE]"
    return [json.loads(line[6:]) for line in lines]


def streamed(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    body = {**fields, "stream": True}
    return chunks(serving.post("/v1/completions", json=body, stream=True))


def test_each_prompt_of_a_list_gets_what_it_gets_alone(serving: Serving) -> None:
    found = choices(serving, **GREEDY)
    alone = [texts(serving, **{**GREEDY, "prompt": prompt})[0] for prompt in PROMPTS]
    assert [choice["text"] for choice in found] == alone
    assert [choice["index"] for choice in found] == [0, 1, 2]
    tokens = [serving.model.tokenizer.encode(prompt) for prompt in PROMPTS]
    assert texts(serving, **{**GREEDY, "prompt": tokens}) == alone
    assert texts(serving, **{**GREEDY, "prompt": [PROMPTS[0], tokens[1]]}) == alone[:2]


def test_an_answer_draws_as_a_request_of_its_own_with_a_later_seed(serving: Serving) -> None:
    found = texts(serving, prompt=["hello", "the"], n=3, **DRAWN)
    assert found == [
        texts(serving, prompt=prompt, **{**DRAWN, "seed": 40 + choice})[0]
        for prompt in ("hello", "the")
        for choice in range(3)
    ]
    assert len(set(found)) > 3
    assert texts(serving, prompt=["hello", "the"], n_cmpl=3, **DRAWN) == found


def test_the_last_seed_is_followed_by_the_first(serving: Serving) -> None:
    found = texts(serving, prompt="hello", n=2, **{**DRAWN, "seed": -1})
    assert found[1] == texts(serving, prompt="hello", **{**DRAWN, "seed": 0})[0]


def test_usage_counts_each_prompt_once_and_every_answer(serving: Serving) -> None:
    usage = complete(serving, prompt=["hello", "the world"], n=2, **DRAWN).json()["usage"]
    tokenizer = serving.model.tokenizer
    prompt = len(tokenizer.encode("hello")) + len(tokenizer.encode("the world"))
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, 4 * 12)
    assert usage["total_tokens"] == prompt + 48
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


def test_the_answers_to_a_prompt_share_its_pages(serving: Serving) -> None:
    tokens = len(serving.model.tokenizer.encode(LONG))
    size = serving.services.settings.page_size
    serving.session.hold()
    client = threading.Thread(target=lambda: texts(serving, prompt=LONG, n=4, **DRAWN))
    client.start()
    serving.session.wait_for_step()  # one answer computes the prompt
    serving.session.allow(1)
    serving.session.wait_for_step()  # the others compute what stands on its last page
    assert serving.pages_used() <= -(-tokens // size) + 3
    serving.session.let_go()
    client.join()
    statistics = serving.model.engine.statistics()
    assert statistics.prefix_hit_tokens >= 3 * (tokens // size * size)
    assert statistics.pages_used == 0


def test_a_stream_has_the_chunks_of_all_answers_with_their_index(serving: Serving) -> None:
    asked = {"prompt": ["hello", "the"], "n": 2, **DRAWN}
    *sent, last = streamed(serving, **asked, stream_options={"include_usage": True})
    parts: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for chunk in sent:
        (choice,) = chunk["choices"]
        parts[choice["index"]].append(choice)
    assert ["".join(part["text"] for part in parts[index]) for index in range(4)] == texts(
        serving, **asked
    )
    for each in parts.values():
        assert [part["finish_reason"] for part in each] == [None] * 11 + ["length"]
    order = [chunk["choices"][0]["index"] for chunk in sent]
    assert order != sorted(order)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 48


def test_a_chat_has_several_answers(serving: Serving) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "n": 3, **DRAWN}
    answer = serving.post("/v1/chat/completions", json=body).json()
    found = [choice["message"]["content"] for choice in answer["choices"]]
    alone = [
        serving.post("/v1/chat/completions", json={**body, "n": 1, "seed": 40 + choice}).json()
        for choice in range(3)
    ]
    assert found == [each["choices"][0]["message"]["content"] for each in alone]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    sent = chunks(serving.post("/v1/chat/completions", json={**body, "stream": True}, stream=True))
    parts: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for chunk in sent:
        (choice,) = chunk["choices"]
        parts[choice["index"]].append(choice["delta"])
    for index, text in enumerate(found):
        assert parts[index][0] == {"role": "assistant", "content": ""}
        assert "".join(delta.get("content", "") for delta in parts[index]) == text


def test_each_answer_stops_at_a_stop_of_its_own(serving: Serving) -> None:
    whole = texts(serving, **{**GREEDY, "max_tokens": 100})
    stops = [text[8:11] for text in whole]
    found = choices(serving, **{**GREEDY, "max_tokens": 100, "stop": stops})
    for choice, text in zip(found, whole, strict=True):
        place = min(text.index(stop) for stop in stops if stop in text)
        assert (choice["text"], choice["finish_reason"]) == (text[:place], "stop")
    eventually(lambda: serving.pages_used() == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_one_answer_ends_them_all(serving: Serving, stream: bool) -> None:
    serving.session.hold()
    asked = {**GREEDY, "n": 2, "max_tokens": 200, "stream": stream}
    answers: list[requests.Response] = []
    client = threading.Thread(target=lambda: answers.append(complete(serving, **asked)))
    client.start()
    eventually(lambda: len(serving.get("/requests").json()["requests"]) == 6)
    last = serving.get("/requests").json()["requests"][-1]["request_id"]
    cancelling = threading.Thread(target=lambda: serving.post(f"/cancel/{last}"))
    with serving.awaiting_aborts(6):
        cancelling.start()
    serving.session.let_go()
    client.join()
    cancelling.join()
    found = chunks(answers[0]) if stream else [answers[0].json()]
    ends = [choice["finish_reason"] for chunk in found for choice in chunk["choices"]]
    assert [reason for reason in ends if reason] == ["cancelled"] * 6
    eventually(lambda: serving.pages_used() == 0)
    assert serving.model.engine.statistics().cancelled == 6


def test_a_client_that_goes_ends_all_its_answers(serving: Serving) -> None:
    serving.session.hold()
    body = {**GREEDY, "n": 2, "max_tokens": 200, "stream": True}
    with serving.awaiting_aborts(6), RawConnection(serving) as connection:
        connection.send(post(json.dumps(body).encode(), path="/v1/completions"))
        eventually(lambda: len(serving.services.requests.running()) == 6)
    serving.session.let_go()
    eventually(lambda: serving.model.engine.statistics().cancelled == 6)
    assert serving.pages_used() == 0
    eventually(lambda: serving.services.slots.in_use == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_fails_fails_the_answer(serving: Serving, stream: bool) -> None:
    serving.session.broken = True
    response = complete(serving, **GREEDY, n=2, stream=stream)
    if stream:
        (chunk,) = chunks(response)
        assert "failed" in chunk["error"]["message"]
    else:
        assert response.status_code == 500
    eventually(lambda: serving.pages_used() == 0)
    serving.session.broken = False
    assert len(choices(serving, **GREEDY)) == 3


def test_more_answers_than_there_are_places_are_refused(serve: Serve) -> None:
    serving = serve(max_batch_size=4, max_queue_length=2)
    assert len(choices(serving, prompt="a", n=6, max_tokens=2)) == 6
    for asked in ({"prompt": "a", "n": 7}, {"prompt": ["a"] * 7}, {"prompt": ["a"] * 4, "n": 2}):
        refused = complete(serving, **asked)
        assert refused.status_code == 400
        assert "--max-queue-length" in refused.json()["error"]["message"]


def test_all_answers_wait_for_places_or_none(serve: Serve) -> None:
    serving = serve(max_batch_size=2, max_queue_length=2)
    serving.session.hold()
    client = threading.Thread(target=lambda: texts(serving, prompt="hello", n=2, **DRAWN))
    client.start()
    eventually(lambda: len(serving.get("/requests").json()["requests"]) == 2)
    assert complete(serving, prompt="a", n=3).status_code == 503
    assert serving.model.engine.statistics().started == 2
    serving.session.let_go()
    client.join()


def test_the_log_has_one_line_with_all_ids(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "rocmforge.api.access"):
        assert complete(serving, prompt=["hello", "the"], n=2, **DRAWN).status_code == 200
    (line,) = (record.fields for record in caplog.records if hasattr(record, "fields"))
    assert line["request_ids"] == [1, 2, 3, 4]
    assert line["tokens"] == 48
