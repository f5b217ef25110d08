"""Arguments of a tool in tags of their own: which values a grammar can express.

A text in tags has no quotes, so what it is depends on its schema alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from runtime.grammar.fixed_text import expect_short_pattern
from runtime.grammar.schema import PATTERNS

NOTES = frozenset({"title", "description", "default", "examples", "$comment", "deprecated"})
"""Keywords that hold nothing."""
OF_OBJECTS = NOTES | {"type", "properties", "required", "additionalProperties", "$defs", "$schema"}
"""Keywords supported for arguments in tags."""
OF_TEXTS = frozenset({"type", "pattern", "minLength", "maxLength", "format"})
"""Keywords supported for a text in tags that is not one of some."""
NOT_TEXT = frozenset({"integer", "number", "boolean", "array", "object", "null"})
KEY = re.compile(r"[A-Za-z0-9_.-]+")
DEFINED = "#/$defs/"
MAX_REFERENCES = 16
MAX_NESTED = 4
"""Alternatives within alternatives."""
MAX_CHOICES = 256
INNER_ANCHOR = re.compile(r"(?<!\\)[$^]|\\[bBAzZ]")


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
    patterns: tuple[str, ...] = ()
    """Regular expressions in Rust's syntax that a text matches as a whole."""

    @property
    def is_text(self) -> bool:
        """Whether the value is written as it is, and not as JSON."""
        return self.schema is None


def tagged_values(schema: Mapping[str, Any]) -> dict[str, TaggedValue]:
    """The arguments of a tool by their names, in the schema's order.

    Raises NoTaggedValue if one of them cannot be expressed.
    """
    for name in schema:
        if name not in OF_OBJECTS:
            raise NoTaggedValue(f"the keyword {name} of the arguments")
    if schema.get("additionalProperties"):
        raise NoTaggedValue("the keyword additionalProperties of the arguments")
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    if not isinstance(properties, Mapping) or not set(required) <= set(properties):
        raise NoTaggedValue("the keyword required, with arguments that are no properties")
    shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {
        key: _value(key, value, required=key in required, shared=shared)
        for key, value in properties.items()
    }


def _value(key: str, schema: Any, *, required: bool, shared: Mapping[str, Any]) -> TaggedValue:
    if not KEY.fullmatch(key):
        raise NoTaggedValue("the name of an argument")
    schema = resolved(key, schema, shared)
    found = choices(key, schema, shared)
    if all(kinds(choice) <= NOT_TEXT for choice in found):
        return TaggedValue(required, schema={**schema, **shared})
    texts = [text for choice in found for text in _texts(key, choice)]
    if texts and all(_is_limited(choice) for choice in found):
        return TaggedValue(required, texts=tuple(dict.fromkeys(texts)))
    if len(found) == 1:
        return tagged_value(key, found[0], required=required)
    # A text beside other types: each text is a value of one of them.
    free = any("string" in kinds(each) and not _held(each) - {"type"} for each in found)
    if not free or any(_held(each) - {"type"} for each in found):
        names = sorted({name for each in found for name in _held(each) - {"type"}})
        raise NoTaggedValue(f"the keyword {(names or ['type'])[0]} of {key}, beside other types")
    return TaggedValue(required)


def tagged_value(key: str, schema: Mapping[str, Any], *, required: bool = True) -> TaggedValue:
    """The value of a schema of texts alone. Raises NoTaggedValue."""
    if texts := _texts(key, schema):
        return TaggedValue(required, texts=tuple(dict.fromkeys(texts)))
    return TaggedValue(required, patterns=_patterns(key, schema))


def resolved(key: str, schema: Any, shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema in the place of a reference to it. Raises NoTaggedValue."""
    for _ in range(MAX_REFERENCES):
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise NoTaggedValue(f"the schema of {key}")
        reference = schema.get("$ref")
        if reference is None:
            return schema
        defined = shared.get("$defs", {})
        name = reference.removeprefix(DEFINED) if isinstance(reference, str) else ""
        if set(schema) - NOTES != {"$ref"} or name not in defined:
            raise NoTaggedValue(f"the keyword $ref of {key}")
        schema = defined[name]
    raise NoTaggedValue(f"the keyword $ref of {key}")


def choices(key: str, schema: Mapping[str, Any], shared: Mapping[str, Any]) -> list[Any]:
    """Return the alternatives of a schema, each of one type. Raises NoTaggedValue."""
    found = list(islice(_choices(key, schema, shared, MAX_NESTED), MAX_CHOICES + 1))
    if len(found) > MAX_CHOICES:
        raise NoTaggedValue(f"the keyword anyOf of {key}, which has too many schemas")
    return found


def _choices(
    key: str, schema: Mapping[str, Any], shared: Mapping[str, Any], depth: int
) -> Iterator[Mapping[str, Any]]:
    for name in ("anyOf", "oneOf"):
        if name in schema:
            inner = schema[name]
            if _held(schema) != {name} or not isinstance(inner, list) or not inner or not depth:
                raise NoTaggedValue(f"the keyword {name} of {key}")
            for each in inner:
                yield from _choices(key, resolved(key, each, shared), shared, depth - 1)
            return
    kind = schema.get("type")
    if isinstance(kind, list) and len(kind) > 1:
        yield from ({**schema, "type": each} for each in kind)
    else:
        yield schema


def _held(schema: Mapping[str, Any]) -> set[str]:
    return set(schema) - NOTES


def kinds(schema: Mapping[str, Any]) -> set[str]:
    """Types of a schema's values; a text is possible where it says none."""
    kind = schema.get("type")
    if kind is None and "const" not in schema and "enum" not in schema:
        return {"string"}
    if kind is not None:
        return set(kind) if isinstance(kind, list) else {str(kind)}
    values = [schema["const"]] if "const" in schema else schema["enum"]
    is_text = not isinstance(values, list) or any(isinstance(value, str) for value in values)
    return {"string"} if is_text else {"object"}


def _is_limited(schema: Mapping[str, Any]) -> bool:
    return "enum" in schema or "const" in schema or schema.get("type") == "null"


def _texts(key: str, schema: Mapping[str, Any]) -> list[str]:
    """Return the only texts of a schema; none if it limits none."""
    if schema.get("type") == "null":
        return ["null"]
    if not _is_limited(schema):
        return []
    name = "const" if "const" in schema else "enum"
    if _held(schema) - {"type", name}:
        raise NoTaggedValue(f"the keyword {name} of {key}, beside others")
    values = [schema["const"]] if name == "const" else schema["enum"]
    if not isinstance(values, list) or not all(
        isinstance(text, str) and text.strip("\n") == text != "" for text in values
    ):
        raise NoTaggedValue(f"the values in the keyword {name} of {key}")
    return values


def _patterns(key: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a text of a schema matches."""
    for name in sorted(_held(schema) - OF_TEXTS):
        raise NoTaggedValue(f"the keyword {name} of {key}")
    found = []
    if "pattern" in schema:
        found.append(_whole(key, schema["pattern"]))
    if "format" in schema:
        if schema["format"] not in PATTERNS:
            raise NoTaggedValue(f"the keyword format of {key}")
        found.append(_whole(key, PATTERNS[schema["format"]]))
    least, most = (schema.get(name) for name in ("minLength", "maxLength"))
    if least is not None or most is not None:
        limits = [0 if least is None else least, most]
        if not all(each is None or (isinstance(each, int) and each >= 0) for each in limits):
            raise NoTaggedValue(f"the keyword {'maxLength' if most else 'minLength'} of {key}")
        found.append(f"(?s:.{{{limits[0]},{'' if most is None else most}}})")
    for pattern in found:
        expect_short_pattern(pattern, "tools")
    return tuple(found)


def _whole(key: str, pattern: Any) -> str:
    """Return a pattern that matches a whole text in which `pattern` is found."""
    if not isinstance(pattern, str):
        raise NoTaggedValue(f"the keyword pattern of {key}")
    inner = pattern.removeprefix("^")
    begins, ends = inner != pattern, inner.endswith("$") and not inner.endswith(r"\$")
    inner = inner[:-1] if ends else inner
    alternatives = (begins or ends) and "|" in inner and not _is_one_group(inner)
    if alternatives or INNER_ANCHOR.search(re.sub(r"\[\^", "[", inner)):
        raise NoTaggedValue(f"the anchors in the keyword pattern of {key}")
    any_text = "(?s:.*)"
    return f"{'' if begins else any_text}(?:{inner}){'' if ends else any_text}"


def _is_one_group(pattern: str) -> bool:
    """Whether a pattern is one group, so that its alternatives are inside."""
    depth, escaped = 0, False
    for place, letter in enumerate(pattern):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter in "()":
            depth += 1 if letter == "(" else -1
            if depth == 0 and place < len(pattern) - 1:
                return False
    return pattern.startswith("(") and depth == 0
