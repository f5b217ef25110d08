import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.completions import WHOLE_CONTEXT, CompletionRequest
from runtime.errors import InvalidRequest
from runtime.sampling import SamplingParameters


def parse(**fields: Any) -> CompletionRequest:
    return CompletionRequest.parse(json.dumps({"prompt": "Hello", **fields}).encode())


def test_defaults_are_those_of_openai() -> None:
    request = parse()
    assert request.generate.prompt == "Hello"
    assert request.generate.max_tokens == 16
    assert request.generate.sampling == SamplingParameters(1.0, top_k=0, top_p=1.0, seed=None)
    assert request.generate.ignore_eos is False
    assert (request.generate.model, request.generate.stops) == (None, ())
    assert (request.stream, request.include_usage) == (False, False)


def test_null_means_the_default_and_harmless_fields_change_nothing() -> None:
    names = ["model", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "ignore_eos"]
    refused = ["n", "best_of", "echo", "logprobs", "suffix", "logit_bias", "presence_penalty"]
    stream = ["stream", "stream_options"]
    assert parse(**dict.fromkeys([*names, *refused, *stream])) == parse()
    assert parse(user="x", store={"deep": [1]}) == parse()


def test_every_parameter_is_taken() -> None:
    request = parse(
        model="m",
        max_tokens=7,
        temperature=0.5,
        top_k=3,
        top_p=0.25,
        seed=11,
        stop=["a", "b"],
        ignore_eos=True,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert request.generate.model == "m"
    assert request.generate.max_tokens == 7
    assert request.generate.sampling == SamplingParameters(0.5, top_k=3, top_p=0.25, seed=11)
    assert request.generate.ignore_eos is True
    assert request.generate.stops == ("a", "b")
    assert (request.stream, request.include_usage) == (True, True)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hi", "Hi"),
        ("", ""),
        (["Hi"], "Hi"),
        ([1, 2, 3], (1, 2, 3)),
        ([[1, 2, 3]], (1, 2, 3)),
        ([], ()),
    ],
)
def test_a_prompt_is_a_text_or_token_ids(prompt: Any, expected: str | tuple[int, ...]) -> None:
    assert parse(prompt=prompt).generate.prompts == (expected,)


def test_there_may_be_several_prompts() -> None:
    assert parse(prompt=["a", "", "b"]).generate.prompts == ("a", "", "b")
    assert parse(prompt=[[1], [2, 3]]).generate.prompts == ((1,), (2, 3))
    assert parse(prompt=["a", [1]]).generate.prompts == ("a", (1,))


@pytest.mark.parametrize("prompt", [[1, "b"], ["a", 1], [[1], 2]])
def test_token_ids_beside_prompts_are_refused_with_advice(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match="an array of its own"):
        parse(prompt=prompt)


@pytest.mark.parametrize("top_k", [0, -1])
def test_zero_and_minus_one_put_top_k_off(top_k: int) -> None:
    assert parse(top_k=top_k) == parse()


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63, 2**64 - 1])
def test_a_seed_has_64_bits_signed_or_not(seed: int) -> None:
    assert parse(seed=seed).generate.sampling.seed == seed % 2**64


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        ("\n", ("\n",)),
        ([], ()),
        (["a", "b", "c", "d"], ("a", "b", "c", "d")),
        ([*"123456789"], tuple("123456789")),
        ("", ()),
        (["", "a", ""], ("a",)),
    ],
)
def test_there_may_be_any_number_of_stops(stop: Any, stops: tuple[str, ...]) -> None:
    assert parse(stop=stop).generate.stops == stops


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("best_of", 1),
        ("echo", False),
        ("logprobs", False),
        ("n_probs", 0),
        ("suffix", ""),
        ("suffix", False),
    ],
)
def test_nothing_may_be_said_in_other_ways(name: str, value: Any) -> None:
    assert parse(**{name: value}) == parse()


def test_a_suffix_is_refused() -> None:
    for other in (2, True, "x", [1]):
        with pytest.raises(InvalidRequest, match="suffix is not supported"):
            parse(suffix=other)


def test_a_limit_may_be_zero_and_minus_one_is_none() -> None:
    assert parse(max_tokens=0).generate.max_tokens == 0
    assert parse(max_tokens=-1).generate.max_tokens == WHOLE_CONTEXT
    with pytest.raises(InvalidRequest, match="max_tokens must be at least 0, not -2"):
        parse(max_tokens=-2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", None),
        ("prompt", 5),
        ("prompt", [True]),
        ("prompt", [1.5]),
        ("prompt", [[["Hello"]]]),
        ("model", 5),
        ("max_tokens", True),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_k", -2),
        ("top_k", 1.5),
        ("top_p", 1.01),
        ("seed", 2**64),
        ("seed", -(2**63) - 1),
        ("seed", 0.5),
        ("stop", "a" * 20_000),
        ("stop", ["a"] * 20_000),
        ("stop", ["a", 5]),
        ("ignore_eos", 1),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("stream_options", True),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"JSON|" + name):
        parse(**{name: value})


@given(st.binary())
def test_bytes_at_random_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CompletionRequest.parse(body)
