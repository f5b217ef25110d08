"""JSON schemas: which keywords are honoured, and a 400 that names one that is not.

Sources: JSON Schema, draft 2020-12, and what llguidance implements (its docs/json_schema.md).
"""

from collections.abc import Mapping
from typing import Any

from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json
from runtime.grammar.fixed_text import expect_short_pattern, expect_short_text

MAX_DEPTH = 64
"""Schemas inside each other."""

UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "not": (),
    "if": (),
    "then": (),
    "else": (),
    "contains": (),
    "minContains": (),
    "maxContains": (),
    "uniqueItems": (False,),
    "propertyNames": (True, {}),
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "$dynamicRef": (),
    "$recursiveRef": (),
}
"""Keywords that no grammar is made of, and the values of each that ask for nothing."""

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
"""Values of `format` that are held."""
UNSUPPORTED_FORMATS = frozenset(
    {
        *("idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template"),
        *("json-pointer", "relative-json-pointer", "regex"),
    }
)
"""Formats of the standard that are not; names that are not in it are notes, and hold nothing."""

_DATE = (
    "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-"
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])"
    "|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
)
_TIME = (
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?"
    "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
PATTERNS: Mapping[str, str] = {
    "date": f"^(?:{_DATE})$",
    "time": f"^{_TIME}$",
    "date-time": f"^(?:{_DATE})[Tt]{_TIME}$",
}
"""Patterns of formats (RFC 3339) for which the compiler allows too much: days no month has."""

SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
"""`items` may be a list before draft 2020-12."""
ONE_SCHEMA = ("items", "additionalItems", "additionalProperties")


COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
COMBINING = ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "additionalProperties")


def arguments_schema(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a call's arguments: an object, with the named properties and no others.

    A tool without parameters takes none. Others than those named are allowed only where the
    parameters say so themselves.
    """
    if not parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    open_ended = "properties" not in parameters or any(name in parameters for name in COMBINING)
    closed = {} if open_ended else {"additionalProperties": False}
    return {"type": "object", **parameters, **closed}


def checked_schema(schema: Any, field: str) -> Any:
    """Return the schema without keywords that have no effect; the compiler checks the rest.

    Raises InvalidRequest naming the keyword that is not supported, and its place.
    """
    return _checked(schema, field, field, MAX_DEPTH)


def _checked(schema: Any, place: str, field: str, depth: int) -> Any:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{place} must be a JSON schema: an object or a boolean", field=field)
    if depth == 0:
        raise InvalidRequest(
            f"{field} has schemas more than {MAX_DEPTH} deep in each other", field=field
        )

    def inner(value: Any, name: str) -> Any:
        return _checked(value, f"{place}.{name}", field, depth - 1)

    kept = {}
    for name, value in schema.items():
        if name == "x-guidance" or (name in UNSUPPORTED and _asks_for_nothing(name, value)):
            continue
        if name in UNSUPPORTED:
            raise InvalidRequest(
                f"the keyword {name} is not supported, at {place}: leave it out", field=field
            )
        if name == "format" and value not in FORMATS:
            if value in UNSUPPORTED_FORMATS:
                raise InvalidRequest(
                    f"the format {value} is not supported, at {place}", field=field
                )
            continue
        if name == "format" and value in PATTERNS and "pattern" not in schema:
            name, value = "pattern", PATTERNS[value]
        if name == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise InvalidRequest(
                f"$ref must begin with # and point into the schema itself, at {place}", field=field
            )
        _expect_short_texts(name, value, field)
        if name in SCHEMAS_BY_NAME and isinstance(value, dict):
            value = {key: inner(one, f"{name}.{key[:64]}") for key, one in value.items()}
        elif name in LISTS_OF_SCHEMAS and isinstance(value, list):
            value = [inner(one, f"{name}[{at}]") for at, one in enumerate(value)]
        elif name in ONE_SCHEMA:
            value = inner(value, name)
        if name in COUNTS and isinstance(value, float) and value.is_integer():
            value = int(value)
        kept[name] = value
    return kept


def _expect_short_texts(name: str, value: Any, field: str) -> None:
    """Raise InvalidRequest if a keyword has too long a fixed text."""
    if name == "pattern" and isinstance(value, str):
        expect_short_pattern(value, field)
    elif name == "patternProperties" and isinstance(value, dict):
        for pattern in value:
            expect_short_pattern(pattern, field)
    elif name in ("properties", "required", "const", "enum"):
        for one in value if isinstance(value, dict | list) else [value]:
            expect_short_text(len(finite_json(one)), field)


def _asks_for_nothing(name: str, value: Any) -> bool:
    return any(value == taken and type(value) is type(taken) for taken in UNSUPPORTED[name])
