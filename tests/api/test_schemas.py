import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.schemas import GenerateRequest
from runtime.errors import InvalidRequest
from runtime.sampling import SamplingParameters


def parse(**fields: Any) -> GenerateRequest:
    return GenerateRequest.parse(json.dumps({"prompt": "Hello", **fields}).encode())


def test_defaults_are_those_of_the_document() -> None:
    request = parse()
    assert request.prompt == "Hello"
    assert request.max_tokens == 100
    assert request.sampling == SamplingParameters(temperature=1.0, top_k=50, top_p=0.9, seed=None)


def test_null_means_the_default_and_what_nobody_knows_is_ignored() -> None:
    assert parse(max_tokens=None, temperature=None, top_k=None, top_p=None, seed=None) == parse()
    assert parse(stream=True, user="x") == parse()
    assert parse(max_tokns={"deep": [1]}).unknown == ("max_tokns",)


def test_every_parameter_is_taken() -> None:
    request = parse(max_tokens=7, temperature=0.5, top_k=3, top_p=0.25, seed=11)
    assert request.max_tokens == 7
    assert request.sampling == SamplingParameters(temperature=0.5, top_k=3, top_p=0.25, seed=11)


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert parse(max_tokens=10.0, top_k=5.0) == parse(max_tokens=10, top_k=5)


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"temperature": 2}, {"top_p": 0}, {"top_p": 1}, {"seed": 2**64 - 1}],
)
def test_the_ends_of_each_range_belong_to_it(fields: dict[str, Any]) -> None:
    parse(**fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 10.5),
        ("max_tokens", True),
        ("max_tokens", "10"),
        ("max_tokens", [10]),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", True),
        ("temperature", "1"),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", -float("inf")),
        ("temperature", 10**400),
        ("top_k", 0),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", False),
        ("top_p", -0.01),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 0.5),
        ("stream", "yes"),
        ("prompt", None),
        ("prompt", 5),
        ("prompt", ["Hello"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=name):
        parse(**{name: value})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"Hello"',
        b"3",
        b"{}",
        b'{"prompt": "a"} {}',
        b"{'prompt': 'a'}",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="request body"):
        GenerateRequest.parse(body)


@given(st.binary())
def test_bytes_at_random_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        GenerateRequest.parse(body)


@given(st.text())
def test_every_prompt_arrives_as_it_was_sent(prompt: str) -> None:
    assert parse(prompt=prompt).prompt == prompt
