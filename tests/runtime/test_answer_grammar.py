"""Answers whose calls a grammar makes: in every format the parser reads valid calls from them."""

import json
import re
from itertools import pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runtime.chat.answer_formats import (
    BARE,
    REASONING_FORMATS,
    THINK,
    TOOL_FORMATS,
    ReasoningFormat,
)
from runtime.chat.answer_parser import AnswerForm, AnswerParser, Part
from runtime.chat.tool_call_parsers import Call
from runtime.chat.tool_call_writers import WRITTEN, Written
from runtime.errors import InvalidRequest
from runtime.grammar import (
    Calls,
    Grammar,
    GrammarCompiler,
    Thinking,
    answer_grammar,
    arguments_schema,
    fitting_calls,
    unfitting,
)
from runtime.grammar.answer import MAX_CALLS
from runtime.grammar.tagged_values import NoTaggedValue, tagged_values
from runtime.tokenizer import Tokenizer
from tests.runtime.schema_suite import fits, walked

SCHEMAS = {
    "move_to": {
        "type": "object",
        "properties": {
            "unit": {"enum": ["km", "a b", "é"]},
            "n": {"type": "integer", "minimum": -9, "maximum": 9},
            "exact": {"type": ["boolean", "null"]},
            "at": {"type": "array", "items": {"enum": [1, 2.5]}, "maxItems": 2},
        },
        "required": ["unit", "at"],
        "additionalProperties": False,
    },
    "stop": arguments_schema({}),
}
FORMATS = {each.name: each for each in (*TOOL_FORMATS, BARE)}
CASES = [
    pytest.param(name, written, id=f"{name}-{place}")
    for name, forms in WRITTEN.items()
    for place, written in enumerate(forms)
]


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer)


def calls(name: str, written: Written, *, forced: bool = True, parallel: bool = True) -> Calls:
    return Calls(SCHEMAS, written, FORMATS[name], forced=forced, parallel=parallel)


def parts(name: str, text: str, *cuts: int) -> list[Part]:
    parser = AnswerParser(AnswerForm(THINK, FORMATS[name], SCHEMAS))
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    return [part for piece in pieces for part in parser.feed(piece)] + parser.flush()


@pytest.mark.parametrize(("name", "written"), CASES)
@hypothesis_settings(max_examples=8)
@given(data=st.data())
def test_forced_calls_are_read_whole_and_valid_however_they_are_cut(
    compiler, tokenizer, name: str, written: Written, data: st.DataObject
) -> None:
    matcher = compiler.matcher(
        answer_grammar(tokenizer, field="tool_choice", calls=calls(name, written))
    )
    text = walked(matcher, tokenizer, np.random.default_rng(data.draw(st.integers(0, 2**32))))
    if text is None:
        return
    found = parts(name, text)
    assert found
    for call in found:
        assert isinstance(call, Call), text
        jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
    cuts = data.draw(st.sets(st.integers(0, len(text)), max_size=6))
    assert parts(name, text, *cuts) == found == parts(name, text, *range(1, len(text)))


WEATHER: dict[str, Any] = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHERS = {"weather": arguments_schema(WEATHER)}
ROME = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def weather(name: str = "hermes", *, forced: bool = True, parallel: bool = True) -> Calls:
    return Calls(WEATHERS, WRITTEN[name][0], FORMATS[name], forced=forced, parallel=parallel)


def allows(compiler: GrammarCompiler, tokenizer: Tokenizer, text: str, **asked: Any) -> bool:
    grammar = answer_grammar(tokenizer, field="f", **asked)
    return fits(compiler.matcher(grammar), tokenizer, text)


@pytest.mark.parametrize(
    ("text", "forced", "parallel", "allowed"),
    [
        (ROME, True, True, True),
        (f"{ROME}\n{ROME}", True, True, True),
        (f"{ROME}\n{ROME}", True, False, False),
        ("\n".join([ROME] * MAX_CALLS), True, True, True),
        ("\n".join([ROME] * (MAX_CALLS + 1)), True, True, False),
        (f"Well. {ROME}", True, True, False),
        (ROME.replace("city", "town"), True, True, False),
        ("Hi", True, True, False),
        ("Hi <tool> there", False, True, True),
        (f"Well.\n{ROME} and {ROME}", False, True, True),
        (f"Well.\n{ROME.replace('city', 'town')}", False, True, False),
        (f"Well.\n{ROME.replace('weather', 'whether')}", False, True, False),
    ],
)
def test_forced_calls_stand_alone_and_strict_ones_within_a_free_text(
    compiler, tokenizer, text: str, forced: bool, parallel: bool, allowed: bool
) -> None:
    asked = weather(forced=forced, parallel=parallel)
    assert allows(compiler, tokenizer, text, calls=asked) is allowed


def test_without_a_mark_an_answer_is_a_call_or_no_json(compiler, tokenizer) -> None:
    asked = weather("json", forced=False)
    good = '{"name": "weather", "parameters": {"city": "Rome"}}'
    assert allows(compiler, tokenizer, good, calls=asked)
    assert allows(compiler, tokenizer, "It is {warm}.", calls=asked)
    assert not allows(compiler, tokenizer, good.replace("city", "town"), calls=asked)


@pytest.mark.parametrize("reasoning", [THINK, REASONING_FORMATS[3]], ids=["think", "THINK"])
@pytest.mark.parametrize("kind", ["form", "calls", "both"])
def test_a_thought_is_free_and_what_follows_it_is_held(
    compiler, tokenizer, reasoning: ReasoningFormat, kind: str
) -> None:
    form = Grammar.regex("[0-9]{2}", field="f") if kind != "calls" else None
    asked: dict[str, Any] = {"form": form, "calls": weather() if kind != "form" else None}
    answers = [text for text, held in (("12", form), (ROME, asked["calls"])) if held]
    thought = f'1 {{"a <tool_call> é\n{reasoning.end}\n\n'
    for begun in (False, True):
        thinking = Thinking(reasoning, begun)
        start = "" if begun else reasoning.start
        for answer in answers:
            text = f"{start}{thought}{answer}"
            assert allows(compiler, tokenizer, text, thinking=thinking, **asked)
            assert allows(compiler, tokenizer, answer, thinking=thinking, **asked) is not begun
        for broken in (f"{start}{thought}a", f"{start}{thought}", "a"):
            assert not allows(compiler, tokenizer, broken, thinking=thinking, **asked)


def test_a_name_or_schema_that_a_format_cannot_write_is_called_in_the_generic_form() -> None:
    tagged, mistral = WRITTEN["qwen-coder"][0], WRITTEN["mistral"][0]
    generic = WRITTEN["hermes"][0]
    assert fitting_calls(tagged, SCHEMAS) is tagged
    assert fitting_calls(mistral, SCHEMAS) is mistral
    assert fitting_calls(mistral, {"a b": {}}) is generic
    assert fitting_calls(None, SCHEMAS) is generic
    assert fitting_calls(tagged, {"f": {"properties": {"a": {"$ref": "#"}}}}) is generic


ZIP = {"type": "string", "pattern": "^[0-9]{5}$"}
NAMES: dict[str, Any] = {"$defs": {"Name": {"enum": ["a", "b"]}}}


@pytest.mark.parametrize(
    ("schema", "allowed", "refused"),
    [
        (ZIP, ["12345"], ["1234", "123456", "a2345", "\n12345"]),
        ({"type": "string", "pattern": "a/+b"}, ["a//b", "xa/by\nz"], ["ab", "a/b</parameter>"]),
        ({"type": "string", "pattern": "^(?:x|yy)$"}, ["x", "yy"], ["xyy", "y"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", 'é"\\'], ["a", "abcd", "ab\n"]),
        ({"type": "string", "minLength": 1}, ["a b"], [""]),
        ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "soon"]),
        ({"const": "x y"}, ["x y"], ["x", "x y "]),
        ({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}, ["a", "null"], ["b", ""]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["7", "null"], ["a", "7.5"]),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ["7", "a b"], ["a</parameter>"]),
        ({"type": ["string", "integer"]}, ["7", "a"], ["a</parameter>"]),
        ({"$ref": "#/$defs/Name"}, ["a", "b"], ["c"]),
    ],
)
def test_a_text_in_tags_is_held_to_its_schema(
    compiler, tokenizer, schema: dict[str, Any], allowed: list[str], refused: list[str]
) -> None:
    parameters = {"type": "object", "properties": {"v": schema}, "required": ["v"], **NAMES}
    asked = Calls({"f": parameters}, WRITTEN["qwen-coder"][0], FORMATS["qwen-coder"], True, True)
    assert fitting_calls(asked.written, asked.schemas) is asked.written
    for text in (*allowed, *refused):
        call = (
            f"<tool_call>\n<function=f>\n<parameter=v>\n{text}</parameter>\n"
            "</function>\n</tool_call>"
        )
        assert allows(compiler, tokenizer, call, calls=asked) is (text in allowed), text
        if text in allowed:
            parser = AnswerParser(AnswerForm(THINK, FORMATS["qwen-coder"], {"f": parameters}))
            (read,) = parser.feed(call) + parser.flush()
            assert isinstance(read, Call)
            jsonschema.validate(json.loads(read.arguments), parameters)


PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "b": {"type": "string", "maxLength": 3},
        "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "c": {"type": "array", "items": {"$ref": "#/$defs/Name"}, "maxItems": 2},
        "d": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
    },
    "required": ["b"],
    **NAMES,
}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ('b:<|"|>x}<|"|>', True),
        ('a:7,b:<|"|>x<|"|>,c:[<|"|>a<|"|>,<|"|>b<|"|>],d:{x:true}', True),
        ('a:null,b:<|"|><|"|>,c:[]', True),
        ('b:<|"|>x<|"|>,d:{x:false}', True),
        ("a:7", False),
        (',b:<|"|>x<|"|>', False),
        ('b:<|"|>x<|"|>,', False),
        ('b:<|"|>abcd<|"|>', False),
        ('b:<|"|>x<|"|>,c:[<|"|>c<|"|>]', False),
        ('b:<|"|>x<|"|>,d:{}', False),
        ('b:<|"|>x<|"|>a:7', False),
    ],
)
def test_gemma_s_arguments_are_held_to_their_schema(
    compiler, tokenizer, arguments: str, allowed: bool
) -> None:
    asked = Calls({"f": PLACE}, WRITTEN["gemma"][0], FORMATS["gemma"], True, True)
    assert fitting_calls(asked.written, asked.schemas) is asked.written
    text = f"<|tool_call>call:f{{{arguments}}}<tool_call|>"
    assert allows(compiler, tokenizer, text, calls=asked) is allowed
    if allowed:
        parser = AnswerParser(AnswerForm(THINK, FORMATS["gemma"], {"f": PLACE}))
        (read,) = parser.feed(text) + parser.flush()
        assert isinstance(read, Call)
        jsonschema.validate(json.loads(read.arguments), PLACE)


def test_references_that_grow_or_never_end_are_refused() -> None:
    many = {f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 9} for n in range(20)}
    wide = {
        f"D{n}": {
            "type": "object",
            "properties": {key: {"$ref": f"#/$defs/D{n + 1}"} for key in "abcdef"},
        }
        for n in range(20)
    }
    endless = {"D0": {"anyOf": [{"$ref": "#/$defs/D0"}, {"type": "string"}]}}
    for defined in (many, wide, endless):
        schema = {"properties": {"v": {"$ref": "#/$defs/D0"}}, "$defs": defined}
        assert unfitting(WRITTEN["gemma"][0], {"f": schema}) is not None
    for defined in (many, endless):
        schema = {"properties": {"v": {"$ref": "#/$defs/D0"}}, "$defs": defined}
        assert unfitting(WRITTEN["qwen-coder"][0], {"f": schema}) is not None


@pytest.mark.parametrize(
    "schema", [{"type": "object"}, {"type": "array"}, {"type": "string", "format": "email"}]
)
def test_what_gemma_s_notation_cannot_hold_is_called_in_the_generic_form(
    schema: dict[str, Any],
) -> None:
    schemas = {"f": {"type": "object", "properties": {"v": schema}}}
    assert fitting_calls(WRITTEN["gemma"][0], schemas) is WRITTEN["hermes"][0]
    assert "keyword" in (unfitting(WRITTEN["gemma"][0], schemas) or "")


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": "string", "format": "email"}, "format"),
        ({"type": "string", "pattern": "^a|b$"}, "pattern"),
        ({"type": "string", "enum": ["a"], "minLength": 2}, "enum"),
        ({"enum": ["a", 1]}, "enum"),
        ({"type": ["string", "integer"], "minimum": 3}, "minimum"),
        ({"allOf": [{}]}, "allOf"),
        ({"$ref": "#/$defs/Other"}, "$ref"),
    ],
)
def test_a_keyword_that_no_tags_hold_is_named(schema: dict[str, Any], keyword: str) -> None:
    with pytest.raises(NoTaggedValue, match=f"keyword {re.escape(keyword)}"):
        tagged_values({"properties": {"v": schema}})


def test_a_text_in_tags_is_anything_but_the_tag_that_ends_it(compiler, tokenizer) -> None:
    asked = weather("qwen-coder")
    text = '<tool_call>\n<function=weather>\n<parameter=city>\n"R" </p\n</parameter>\n'
    assert allows(compiler, tokenizer, f"{text}</function>\n</tool_call>", calls=asked)
    assert not allows(compiler, tokenizer, f"{text}R</function>\n</tool_call>", calls=asked)


def test_a_tool_s_keyword_that_is_not_supported_is_named(tokenizer) -> None:
    asked = Calls({"f": {"not": {}}}, WRITTEN["hermes"][0], FORMATS["hermes"], True, True)
    with pytest.raises(InvalidRequest, match=r"keyword not .* tools\[f\]\.parameters"):
        answer_grammar(tokenizer, field="f", calls=asked)


@pytest.mark.parametrize(
    ("given", "closed"),
    [({}, True), (WEATHER, True), ({"type": "object"}, False), ({"$ref": "#"}, False)],
)
def test_arguments_are_those_that_a_tool_names(given: dict[str, Any], closed: bool) -> None:
    schema = arguments_schema(given)
    assert schema["type"] == "object"
    assert (schema.get("additionalProperties") is False) is closed
