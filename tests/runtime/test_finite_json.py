"""JSON without NaN and infinity, wherever they stand."""

import ast
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.chat import ChatChunk, ChatCompletion
from api.schemas import GenerateAnswer, RunningRequest
from api.sse import TokenEvent
from runtime.finite_json import _may_hold_floats, finite_json

NOT_FINITE = [math.nan, math.inf, -math.inf]


class Figures(msgspec.Struct):
    name: str
    values: dict[str, float | None]
    rows: tuple[tuple[float, ...], ...] = ()
    other: Any = None
    path: Path = Path("a")


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda x: Figures("a", {"b": x}), "$.values.b"),
        (lambda x: Figures("a", {}, rows=((1.0,), (2.0, x))), "$.rows[1][1]"),
        (lambda x: Figures("a", {}, other=[{"c": x}]), "$.other[0].c"),
        (lambda x: [Figures("a", {"b": 1.0}), Figures("a", {"b": x})], "$[1].values.b"),
        (lambda x: {"a": (None, x)}, "$.a[1]"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_its_place(
    number: float, make: Any, place: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        finite_json(make(number))
    assert str(caught.value).startswith(f"{place} is ")


def test_what_is_finite_is_written() -> None:
    figures = Figures("null", {"a": None, "b": 1e308}, other=[None, -0.0], path=Path("/b"))
    assert json.loads(finite_json(figures)) == {
        "name": "null",
        "values": {"a": None, "b": 1e308},
        "rows": [],
        "other": [None, -0.0],
        "path": "/b",
    }


@given(st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_it_is_refused_where_python_refuses_it(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        with pytest.raises(ValueError, match="no number"):
            finite_json(value)
    else:
        assert json.loads(finite_json(value)) == value


def test_events_of_tokens_are_known_to_hold_no_such_number() -> None:
    assert not any(map(_may_hold_floats, (ChatChunk, ChatCompletion, TokenEvent, GenerateAnswer)))
    assert all(map(_may_hold_floats, (RunningRequest, Figures, dict, list)))


@pytest.mark.parametrize("package", ["api", "runtime"])
def test_nothing_else_writes_json(package: str) -> None:
    allowed = {
        # Text for prompts, as templates have it.
        "runtime/chat/filters.py",
        # Texts alone.
        "runtime/chat/generic_tools.py",
        "runtime/grammar/answer.py",
        "runtime/grammar/checking.py",
        "runtime/grammar/gbnf.py",
        # Arguments of a call, with allow_nan=False; halves of surrogates are replaced afterwards.
        "runtime/chat/tool_call_parsers.py",
        "runtime/chat/begun_call.py",
        # What a child says of a GPU: texts.
        "runtime/device/probe.py",
        # What pages are kept for: texts and whole numbers, to be hashed.
        "runtime/page_tiers/identity.py",
        # A line of the log is never refused; it has null instead.
        "api/telemetry/logs.py",
        # Values of TOML: texts, whole numbers and lists of texts.
        "api/keys.py",
        # Events again, with what is not ASCII escaped.
        "api/sse.py",
        "runtime/finite_json.py",
    }
    root = Path(__file__).parents[2]
    for path in (root / package).rglob("*.py"):
        name = path.relative_to(root).as_posix()
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        written = {ast.unparse(call) for call in calls} & {
            "json.dumps",
            "json.dump",
            "msgspec.json.encode",
        }
        assert not written or name in allowed, f"{name} writes JSON by {written}"
