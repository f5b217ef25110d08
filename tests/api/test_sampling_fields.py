"""Fields that change how tokens are picked, sent to a server."""

from typing import Any

import pytest

from tests.api.conftest import Serve
from tests.api.serving import Serving

GREEDY: dict[str, Any] = {"prompt": "hello the", "temperature": 0, "max_tokens": 8}


def tokens(serving: Serving, **fields: Any) -> list[int]:
    answer = serving.post("/generate", json={**GREEDY, **fields})
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["tokens"]
    return found


def test_a_token_that_stops_adds_no_text(serving: Serving) -> None:
    plain = tokens(serving)
    stop = plain[3]
    place = plain.index(stop)
    body = {**GREEDY, "stop_token_ids": [stop]}
    answer = serving.post("/v1/completions", json=body).json()
    before = serving.post("/v1/completions", json={**GREEDY, "max_tokens": max(1, place)}).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["text"] == (before["choices"][0]["text"] if place else "")
    assert answer["usage"]["completion_tokens"] == place + 1


def test_before_the_least_number_of_tokens_nothing_stops(serving: Serving) -> None:
    stop = tokens(serving)[0]
    later = tokens(serving, stop_token_ids=[stop], min_tokens=5)
    assert stop not in later[:5]
    assert len(later) >= 5


def test_an_end_token_is_not_picked_before_the_least_number(serve: Serve) -> None:
    ends = frozenset(range(200))
    serving = serve(end_of_generation=ends)
    found = tokens(serving, min_tokens=6)
    assert len(found) >= 6
    assert not ends & set(found[:6])


def test_a_bias_decides_and_a_penalty_ends_a_repetition(serving: Serving) -> None:
    assert tokens(serving, logit_bias={"77": 100}) == [77] * 8
    penalized = tokens(serving, logit_bias={"77": 100}, repetition_penalty=100)
    assert penalized[0] == 77
    assert penalized.count(77) < 8
    assert tokens(serving, repeat_penalty=1.5) == tokens(serving, repetition_penalty=1.5)


def test_guesses_change_no_penalized_token(serving: Serving, serve: Serve) -> None:
    guessing = serve(prompt_lookup=True)
    for fields in (
        {"repetition_penalty": 1.05},
        {"frequency_penalty": 0.5, "repeat_last_n": 3},
        {"logit_bias": {"77": 3.0}, "presence_penalty": 0.1},
    ):
        wanted = {**fields, "max_tokens": 60}
        assert tokens(guessing, **wanted) == tokens(serving, **wanted)


def test_an_end_token_may_be_ignored(serve: Serve) -> None:
    serving = serve(end_of_generation=frozenset(range(300)))
    assert len(tokens(serving, ignore_eos=True)) == 8
    assert len(tokens(serving)) < 8


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("max_completion_tokens", "max_tokens"),
        ("max_completion_tokens", "n_predict"),
        ("max_tokens", "n_predict"),
        ("repetition_penalty", "repeat_penalty"),
    ],
)
def test_two_names_of_a_field_have_one_value(serving: Serving, first: str, second: str) -> None:
    same = serving.post("/v1/completions", json={"prompt": "a", first: 3, second: 3.0})
    assert same.status_code == 200
    other = serving.post("/v1/completions", json={"prompt": "a", first: 3, second: 4})
    assert other.status_code == 400
    assert first in other.json()["error"]["message"]
    assert other.json()["error"]["param"] == second


def test_a_repetition_is_not_gone_on_with(serving: Serving) -> None:
    biased = {"logit_bias": {"77": 100}, "dry_allowed_length": 3}
    assert tokens(serving, **biased) == [77] * 8
    broken = tokens(serving, **biased, dry_multiplier=100)
    assert broken[:4] == [77] * 4
    assert broken != [77] * 8
    text = serving.post("/detokenize", json={"tokens": [77]}).json()["content"]
    ended = tokens(serving, **biased, dry_multiplier=100, dry_sequence_breakers=[text])
    assert ended == [77] * 8


def test_samplers_act_in_the_order_that_is_asked_for(serving: Serving) -> None:
    sampled = {"temperature": 2.0, "seed": 3, "top_k": 3, "top_p": 0.5}
    every = tokens(serving, **sampled)
    assert tokens(serving, **sampled, samplers="edskypmxt") == every
    assert tokens(serving, **sampled, samplers=["top_k", "top_p", "temperature"]) == every
    hot_first = tokens(serving, **sampled, samplers="tkp")
    assert hot_first == tokens(serving, **sampled, samplers=["temperature", "top_k", "top_p"])
    likeliest = tokens(serving)
    assert tokens(serving, **{**sampled, "top_k": 1}, samplers="k") == likeliest
    assert tokens(serving, **{**sampled, "top_k": 1}, samplers="t") != likeliest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("repeat_penalty", -1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", True),
        ("repeat_last_n", -2),
        ("min_tokens", 9),
        ("typical_p", 1.5),
        ("typ_p", -0.1),
        ("top_n_sigma", -2),
        ("xtc_probability", 2),
        ("xtc_threshold", -1),
        ("dry_multiplier", -1),
        ("dry_base", 0.5),
        ("dry_allowed_length", 1.5),
        ("dry_penalty_last_n", -2),
        ("dry_sequence_breakers", ["x"] * 33),
        ("dry_sequence_breakers", ["x" * 41]),
        ("dynatemp_range", -1),
        ("dynatemp_exponent", 11),
        ("samplers", ["infill"]),
        ("samplers", ["top_k", "top_k"]),
        ("samplers", ["top_k", "penalties"]),
        ("mirostat", 2),
        ("logit_bias", {"77": 101}),
        ("logit_bias", {"text": 1}),
        ("logit_bias", {"999999": 1}),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [999999]),
        ("stop_token_ids", [1.5]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(serving: Serving, name: str, value: Any) -> None:
    for path in ("/generate", "/v1/completions"):
        answer = serving.post(path, json={**GREEDY, name: value})
        assert answer.status_code == 400
        assert name in answer.text
