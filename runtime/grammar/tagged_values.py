"""Arguments of a tool in tags of their own: which values a grammar can express.

A text in tags has no quotes, so what it is depends on its schema alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated"})
"""Keywords that hold nothing."""
OF_OBJECTS = NOTES | {"type", "properties", "required", "additionalProperties", "$defs", "$schema"}
"""Keywords supported for arguments in tags."""
NOT_TEXT = frozenset({"integer", "number", "boolean", "array", "object", "null"})
KEY = re.compile(r"[A-Za-z0-9_.-]+")


class NoTaggedValue(Exception):
    """A schema that cannot be expressed in tags, and why."""


@dataclass(frozen=True, slots=True)
class TaggedValue:
    """Possible values between the tags of one argument. Immutable."""

    required: bool
    texts: tuple[str, ...] | None = None
    """The only allowed texts, if limited."""
    schema: Mapping[str, Any] | None = None
    """The schema of a value in JSON; any text where this is None too."""


def tagged_values(schema: Mapping[str, Any]) -> dict[str, TaggedValue]:
    """The arguments of a tool by their names, in the schema's order.

    Raises NoTaggedValue if one of them cannot be expressed.
    """
    for name in schema:
        if name not in OF_OBJECTS:
            raise NoTaggedValue(f"the keyword {name} of the arguments")
    if schema.get("additionalProperties"):
        raise NoTaggedValue("additionalProperties")
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    if not isinstance(properties, Mapping) or not set(required) <= set(properties):
        raise NoTaggedValue("required arguments that are no properties")
    shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {
        key: _value(key, value, required=key in required, shared=shared)
        for key, value in properties.items()
    }


def _value(key: str, schema: Any, *, required: bool, shared: Mapping[str, Any]) -> TaggedValue:
    if not KEY.fullmatch(key):
        raise NoTaggedValue("the name of an argument")
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise NoTaggedValue(f"the schema of {key}")
    held = set(schema) - NOTES
    kind = schema.get("type")
    if held <= {"type"} and kind in (None, "string", ["string", "null"], ["null", "string"]):
        return TaggedValue(required)
    if held <= {"type", "enum"} and kind in (None, "string"):
        texts = schema.get("enum") or ()
        if not texts or not all(
            isinstance(text, str) and text.strip("\n") == text != "" for text in texts
        ):
            raise NoTaggedValue(f"the values of {key}")
        return TaggedValue(required, texts=tuple(texts))
    kinds = set(kind) if isinstance(kind, list) else {kind}
    if not kinds <= NOT_TEXT:
        raise NoTaggedValue(f"the schema of {key}")
    return TaggedValue(required, schema={**schema, **shared})
