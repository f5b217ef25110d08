"""A body is strict JSON in UTF-8; every error names its field."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.chat import ChatRequest
from api.completions import CompletionRequest
from api.request_body import MAX_NESTING, decode
from api.schemas import GenerateRequest
from runtime.errors import InvalidRequest

Parsed = GenerateRequest | CompletionRequest | ChatRequest


class Anything(msgspec.Struct):
    x: Any = None
    y: Any = None


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(body, Anything)
    return caught.value


def test_a_byte_order_mark_is_passed_over() -> None:
    assert decode(b'\xef\xbb\xbf{"x": 1}', Anything) == Anything(1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"x": NaN}', "x"),
        (b'{"x": -Infinity}', "x"),
        (b'{"x": 1e400}', "x"),
        (b'{"x": -1e400}', "x"),
        (b'{"x": [{"b": [1, 1e999]}]}', "x[0].b[1]"),
        (b'{"x": %s}' % (b"9" * 401), "x"),
        (b'{"x": %s}' % (b"9" * 60_000), "x"),
        (rb'{"x": {"c": "\ud800"}}', "x.c"),
        (rb'{"x": [["a", "\udC00\ud800"]]}', "x[0][1]"),
        (rb'{"y": {"\ud83d": 1}}', "y"),
        (b'{"x": 1, "y": 2, "x": 1}', "x"),
        (b'{"y": {"z": 1, "z": 2}}', "z"),
    ],
)
def test_what_parsers_read_in_different_ways_is_refused_by_name(body: bytes, field: str) -> None:
    error = refusal(body)
    assert error.field == field
    assert field in str(error)
    assert len(str(error)) < 200


def test_a_whole_utf16_pair_is_a_letter() -> None:
    assert decode(rb'{"x": "\ud83d\ude00", "y": "\u0000"}', Anything) == Anything("😀", "\0")


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 500, 600, 980, 2_000, 100_000, 1_000_000])
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_refused_from_one_depth_on(depth: int, begin: bytes, end: bytes) -> None:
    deep = begin * depth + b"1" + end * depth
    for body in (deep, b'{"x": %s}' % deep, b'{"messages": [], "x": %s}' % deep):
        for parse in (GenerateRequest.parse, CompletionRequest.parse, ChatRequest.parse):
            with pytest.raises(InvalidRequest):
                parse(body)
        assert depth > 1_000 or "in each other" in str(refusal(body))


@pytest.mark.parametrize("depth", [MAX_NESTING, 500, 600, 900, 980, 2_000, 100_000])
def test_a_large_body_is_as_shallow(depth: int) -> None:
    filling = "y" * 100_000
    deep = "[" * depth + "1" + "]" * depth
    body = f'{{"messages": [], "y": "{filling}", "x": {deep}}}'
    assert "in each other" in str(refusal(body.encode()))
    message = f'{{"role": "user", "content": "{filling}", "tool_calls": [{{"x": {deep}}}]}}'
    body = f'{{"messages": [{message}]}}'
    with pytest.raises(InvalidRequest, match="in each other"):
        ChatRequest.parse(body.encode())


@pytest.mark.parametrize("wrong", ["NaN", "1e400", "-Infinity", r'"\ud800"', '"\x01"', "01", "}"])
def test_a_large_body_is_as_strict(wrong: str) -> None:
    body = f'{{"y": "{"y" * 100_000}", "x": {wrong}}}'
    assert "the request body" in str(refusal(body.encode()))


def test_nesting_to_that_depth_is_read() -> None:
    depth = MAX_NESTING - 1
    decode(b'{"x": %s}' % (b"[" * depth + b"]" * depth), Anything)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**64), 2**64)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_value_arrives_as_it_was_sent(value: Any) -> None:
    assert decode(json.dumps({"x": value}).encode(), Anything).x == value
    assert decode(json.dumps({"x": value}, ensure_ascii=False).encode(), Anything).x == value


NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 10**400])
    | st.sampled_from([5e-324, 1e-45, 7e-46, 1.1754944e-38, 3.5e38, 1.7976931348623157e308])
    | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
)
FIELDS = ["max_tokens", "temperature", "top_k", "top_p", "seed"]


@given(st.dictionaries(st.sampled_from(FIELDS), NUMBERS, min_size=1, max_size=1))
def test_a_number_is_taken_or_refused_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    bodies: dict[type[Parsed], dict[str, Any]] = {
        GenerateRequest: {"prompt": "a", **fields},
        CompletionRequest: {"prompt": "a", **fields},
        ChatRequest: {"messages": [{"role": "user", "content": "a"}], **fields},
    }
    for kind, body in bodies.items():
        error = refused(kind, body)
        assert error is None or (error.field == name and name in str(error))


def refused(kind: type[Parsed], body: dict[str, Any]) -> InvalidRequest | None:
    try:
        kind.parse(json.dumps(body).encode())
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize("name", ["max_tokens", "top_k", "seed"])
@pytest.mark.parametrize("value", [2**64, 10**30, -(2**63) - 1, 1e30])
def test_a_whole_number_beyond_64_bits_is_refused_by_name(name: str, value: float) -> None:
    for kind in (GenerateRequest, CompletionRequest):
        with pytest.raises(InvalidRequest, match=name):
            kind.parse(json.dumps({"prompt": "a", name: value}).encode())


@given(st.binary())
def test_bytes_at_random_are_read_or_refused(body: bytes) -> None:
    try:
        decode(body, Anything)
    except InvalidRequest:
        return
    assert isinstance(json.loads(body.removeprefix(b"\xef\xbb\xbf")), dict)
