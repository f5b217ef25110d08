"""Values of arguments as models write them: in JSON, in Python's notation, or without a type."""

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_LITERAL_LENGTH = 10_000
"""Characters of a value in Python's writing, which some templates teach."""


def typed(text: str, schema: Any) -> Any:
    """Convert a value written without a type by its schema, or by its form if there is none."""
    kinds = set(_kinds(schema))
    value = _value(text)
    if value is None and text.strip() not in ("null", "None"):
        return text
    if not kinds:
        return text if isinstance(value, str) else value
    if "string" in kinds and (isinstance(value, str) or _kind(value) not in kinds):
        return text
    return value


def _kinds(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type")
    yield from kind if isinstance(kind, list) else [kind] if isinstance(kind, str) else []
    yield from (_kind(value) for value in _listed(schema.get("enum")))
    for name in ("anyOf", "oneOf"):
        for each in _listed(schema.get(name)):
            yield from _kinds(each)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return "null" if value is None else kinds.get(type(value), "object")


def _value(text: str) -> Any:
    """Parse a value in JSON's or Python's notation; None if it is in neither."""
    value = parsed_json(text)
    if value is None and len(text) <= MAX_LITERAL_LENGTH and text.strip()[:1] in tuple("[{("):
        try:
            return python_value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    if value is None and text.strip() in ("True", "False"):
        return text.strip() == "True"
    return value


def plain_value(text: str) -> Any:
    """Convert a value without quotes; a text where it is no value of JSON or Python."""
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    value = parsed_json(text)
    return text if value is None and text != "null" else value


def python_value(node: ast.expr) -> Any:
    """A literal; true, false and null are taken as JSON has them. Raises ValueError."""
    match node:
        case ast.Name(id="true" | "false" | "null"):
            return {"true": True, "false": False, "null": None}[node.id]
        case ast.List() | ast.Tuple():
            return [python_value(each) for each in node.elts]
        case ast.Dict():
            return {
                str(python_value(key)): python_value(value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("no value of JSON")
    return value


def parsed_json(text: str) -> Any:
    """Parse a JSON value; None if the text is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def json_decoder() -> json.JSONDecoder:
    """Return a decoder that takes no NaN and no infinity."""
    return json.JSONDecoder(parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
