import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.models import byte_level_vocabulary


def events(response: requests.Response) -> list[dict[str, object]]:
    """The events of a stream, to its end."""
    lines = response.iter_lines()
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


def test_an_answer_has_the_document_s_fields(serving: Serving) -> None:
    response = serving.generate("hello world", max_tokens=5)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["request_id", "text", "tokens", "finished", "finish_reason"]
    assert answer["request_id"] == 1
    assert len(answer["tokens"]) == 5
    assert (answer["finished"], answer["finish_reason"]) == (True, "length")


def test_a_stream_has_an_event_for_each_token_and_its_text_is_the_answer_s(
    serving: Serving,
) -> None:
    greedy = {"temperature": 0, "max_tokens": 12}
    answer = serving.generate("hello", **greedy).json()
    response = serving.stream("hello", **greedy)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    sent = events(response)
    assert [event["token"] for event in sent] == answer["tokens"]
    assert "".join(str(event["text"]) for event in sent) == answer["text"]
    assert [event["finish_reason"] for event in sent] == [None] * 11 + ["length"]
    for event in sent:
        assert list(event) == ["request_id", "token", "text", "finished", "finish_reason"]


def test_a_seed_repeats_a_sampled_answer(serving: Serving) -> None:
    sampled: dict[str, Any] = {"temperature": 2.0, "top_k": 278, "top_p": 1.0, "max_tokens": 20}
    first = serving.generate(seed=7, **sampled).json()["tokens"]
    assert serving.generate(seed=7, **sampled).json()["tokens"] == first
    assert [event["token"] for event in events(serving.stream(seed=7, **sampled))] == first
    assert serving.generate(seed=8, **sampled).json()["tokens"] != first


def test_top_k_one_and_top_p_zero_are_greedy_and_a_huge_top_k_is_clamped(serving: Serving) -> None:
    greedy = serving.generate(temperature=0, max_tokens=8).json()["tokens"]
    assert serving.generate(top_k=1, max_tokens=8).json()["tokens"] == greedy
    assert serving.generate(top_p=0, max_tokens=8).json()["tokens"] == greedy
    assert serving.generate(top_k=2**63 - 1, max_tokens=8).status_code == 200


def test_the_end_token_stands_in_the_tokens_and_adds_no_text(
    serve: Serve, serving: Serving
) -> None:
    tokens = serving.generate(temperature=0, max_tokens=20).json()["tokens"]
    end = tokens[-1]
    ends = serve(end_of_generation=frozenset({end}))
    answer = ends.generate(temperature=0, max_tokens=20).json()
    assert answer["tokens"] == tokens[: tokens.index(end) + 1]
    assert answer["finish_reason"] == "eos"


def test_max_tokens_is_clamped_to_the_context(serving: Serving) -> None:
    answer = serving.generate("hello", max_tokens=10**9).json()
    prompt = len(serving.model.tokenizer.encode("hello"))
    assert len(answer["tokens"]) == serving.model.engine.limits.context_length - prompt
    assert answer["finish_reason"] == "length"


def test_a_prompt_that_fills_the_context_is_refused(serving: Serving) -> None:
    response = serving.generate("x" * serving.model.engine.limits.context_length)
    assert response.status_code == 400
    assert "context" in response.json()["error"]


def test_a_prompt_is_refused_as_soon_as_it_cannot_fit(serving: Serving) -> None:
    longest = max(map(len, byte_level_vocabulary().tokens))
    least = 4 * serving.model.engine.limits.context_length
    for prompt in ("x" * least * longest, "hello\n" * 100_000):
        response = serving.generate(prompt)
        assert response.status_code == 400
        assert "at least" in response.json()["error"]
    response = serving.generate("x" * least * longest)
    assert f"the prompt has at least {least} tokens" in response.json()["error"]


def test_many_clients_each_get_what_they_would_get_alone(serving: Serving) -> None:
    prompts = ["hello", "the world", "and", "hello and hello", "漢", "ing the"]
    alone = [serving.generate(p, temperature=0, max_tokens=10).json()["tokens"] for p in prompts]
    serving.session.hold()
    with ThreadPoolExecutor(len(prompts)) as pool:
        waiting = [
            pool.submit(serving.stream, prompt, temperature=0, max_tokens=10) for prompt in prompts
        ]
        serving.session.let_go()
        together = [[event["token"] for event in events(one.result())] for one in waiting]
    assert together == alone


def test_a_failed_step_is_500_and_a_failed_last_event(serving: Serving) -> None:
    serving.session.broken = True
    response = serving.generate()
    assert response.status_code == 500
    assert response.json()["status"] == "error"
    (event,) = events(serving.stream())
    assert (event["token"], event["finished"], event["finish_reason"]) == (None, True, "failed")
    serving.session.broken = False
    assert serving.generate(max_tokens=1).status_code == 200


@pytest.mark.parametrize("route", ["/generate", "/generate/stream"])
def test_a_prompt_names_control_tokens_unless_it_says_no(serving: Serving, route: str) -> None:
    def prompt_tokens(**fields: object) -> object:
        serving.post(route, json={"prompt": "<|im_end|>a", "max_tokens": 1, **fields})
        (trace,) = serving.services.traces.newest(1)
        return (trace[0].attributes or {})["gen_ai.usage.input_tokens"]

    assert prompt_tokens() == prompt_tokens(parse_special=None) == 2
    typed = prompt_tokens(parse_special=False)
    assert typed == len(serving.model.tokenizer.encode("<|im_end|>a")) > 2
