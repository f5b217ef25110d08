"""Every keyword of JSON Schema that we take: valid texts are allowed, others are not.

A short form of `make schema-suite`, with cases of our own.
"""

from typing import Any

import pytest

from runtime.grammar import Grammar, GrammarCompiler
from runtime.tokenizer import Tokenizer
from tests.runtime.schema_suite import Findings, examine, fits

CASES: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "string"}, ["", 'é\n"', "\U0001f642"], [1, None, []]),
    ({"type": ["integer", "null"]}, [7, 7.0, None], [7.5, "7"]),
    ({"type": "boolean"}, [True, False], [0, "true"]),
    ({"enum": [[], {"a": 1}, "b"]}, [[], {"a": 1}, "b"], [{}, "a"]),
    ({"const": {"a": [None]}}, [{"a": [None]}], [{"a": []}]),
    ({"anyOf": [{"type": "null"}, {"minimum": 3, "type": "number"}]}, [None, 3.5], [2, "a"]),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [1.5, None]),
    ({"allOf": [{"minimum": 2}, {"maximum": 4}], "type": "integer"}, [2, 4], [1, 5]),
    (
        {
            "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "$ref": "#/$defs/tree",
        },
        [[], [[], [[]]]],
        [[1], {}],
    ),
    ({"properties": {"a": {"type": "null"}}, "type": "object"}, [{}, {"a": None}], [{"a": 1}]),
    ({"required": ["b", "a"], "type": "object"}, [{"a": 1, "b": 2}], [{"a": 1}, {}]),
    (
        {"properties": {"a": True}, "additionalProperties": {"type": "integer"}, "type": "object"},
        [{"a": "x", "b": 1}],
        [{"b": "x"}],
    ),
    (
        {
            "patternProperties": {"^x": {"type": "null"}},
            "additionalProperties": False,
            "type": "object",
        },
        [{"xy": None}, {}],
        [{"xy": 1}, {"y": None}],
    ),
    ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
    ({"type": "object", "maxProperties": 1.0}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
    ({"type": "array", "items": {"type": "null"}}, [[], [None, None]], [[1]]),
    ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, [[], [1]], [[2], [1, 1]]),
    ({"type": "array", "minItems": 1, "maxItems": 2}, [[1], [1, "a"]], [[], [1, 1, 1]]),
    ({"type": "string", "minLength": 1, "maxLength": 2}, ["é", "ab"], ["", "abc"]),
    ({"type": "string", "pattern": "^a?b+$"}, ["abb", "b"], ["", "ba"]),
    ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
    ({"type": "number", "multipleOf": 0.5}, [1, 2.5], [0.3]),
    (
        {"type": "string", "format": "date"},
        ["2024-02-29", "2000-02-29", "1999-12-31"],
        ["2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01"],
    ),
    (
        {"type": "string", "format": "time"},
        ["23:59:59.5Z", "00:00:00+01:30"],
        ["24:00:00Z", "1:00Z"],
    ),
    (
        {"type": "string", "format": "date-time"},
        ["2024-02-29T12:00:00Z"],
        ["2023-02-29T12:00:00Z", "2024-02-29"],
    ),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
    ({"type": "string", "format": "ipv4"}, ["192.168.0.1"], ["256.1.1.1"]),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES)
def test_a_keyword_is_held_in_what_is_allowed_and_in_what_is_drawn(
    tokenizer: Tokenizer, schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    tests = [{"data": each, "valid": True} for each in valid]
    tests += [{"data": each, "valid": False} for each in invalid]
    findings = Findings()
    group = {"description": "", "schema": schema, "tests": tests}
    examine(GrammarCompiler(tokenizer), tokenizer, "own", group, findings)
    assert (findings.wrong, list(findings.refused)) == ([], [])
    assert findings.counts["texts drawn"]


@pytest.mark.parametrize(
    ("text", "allowed"), [('{ "a": 1 }', True), ('{\n    "a": 1\n}', True), ('{"a":   1}', False)]
)
def test_between_tokens_there_is_a_space_or_a_new_line_and_blanks(
    tokenizer: Tokenizer, text: str, allowed: bool
) -> None:
    matcher = GrammarCompiler(tokenizer).matcher(Grammar.json_object(field="f"))
    assert fits(matcher, tokenizer, text) is allowed
