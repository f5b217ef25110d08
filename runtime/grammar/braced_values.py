"""Arguments of a tool in Gemma's notation: keys without quotes, texts in quotes of their own."""

from collections.abc import Mapping
from typing import Any, Protocol

from runtime.grammar.tagged_values import (
    KEY,
    NOT_TEXT,
    NOTES,
    NoTaggedValue,
    TaggedValue,
    choices,
    kinds,
    resolved,
    tagged_value,
)

MAX_DEPTH = 16
"""Objects and arrays inside each other."""
MAX_VALUES = 1000
"""Of all schemas, those that are referred to counted each time."""
OF_ARRAYS = NOTES | {"type", "items", "minItems", "maxItems"}
OF_OBJECTS = NOTES | {"type", "properties", "required", "additionalProperties", "$defs", "$schema"}


class Rules(Protocol):
    """What a grammar in Lark is made of."""

    def literal(self, text: str) -> str:
        """A text."""

    def value(self, value: TaggedValue, end: str) -> str:
        """A text or JSON, with the mark that ends it."""

    def rule(self, name: str, body: str) -> str:
        """The name of a new rule."""


class BracedValues:
    """Writes schemas as expressions in Lark. Owned by one call.

    Its methods raise NoTaggedValue for what the notation cannot express.
    """

    def __init__(self, rules: Rules, quote: str, schema: Mapping[str, Any]) -> None:
        """`quote`: the mark around a text; `schema`: that of all arguments."""
        self._rules = rules
        self._quote = quote
        self._schema = schema
        self._left = MAX_VALUES
        self._shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}

    def entries(self) -> str:
        """The arguments, without the braces around them."""
        return self._entries("arguments", self._schema, MAX_DEPTH)

    def _value(self, key: str, schema: Any, depth: int) -> str:
        self._left -= 1
        if depth == 0 or self._left < 0:
            raise NoTaggedValue(f"the depth or the size of {key}")
        found = []
        for choice in choices(key, resolved(key, schema, self._shared), self._shared):
            kind = choice.get("type")
            if kind == "object":
                found.append(f'"{{" {self._entries(key, choice, depth - 1)} "}}"')
            elif kind == "array":
                found.append(self._items(key, choice, depth - 1))
            elif kinds(choice) <= NOT_TEXT:
                found.append(self._rules.value(TaggedValue(True, schema=choice), ""))
            else:
                text = self._rules.value(tagged_value(key, choice), self._quote)
                found.append(f"{self._rules.literal(self._quote)} {text}")
        return f"({' | '.join(found)})"

    def _items(self, key: str, schema: Mapping[str, Any], depth: int) -> str:
        for name in sorted(set(schema) - OF_ARRAYS):
            raise NoTaggedValue(f"the keyword {name} of {key}")
        if "items" not in schema:
            raise NoTaggedValue(f"the keyword items of {key}, which is missing")
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if not isinstance(least, int) or not isinstance(most, int | None):
            raise NoTaggedValue(f"the keyword minItems of {key}")
        if most is not None and most < max(least, 1):
            raise NoTaggedValue(f"the keyword maxItems of {key}")
        item = self._rules.rule("item", self._value(key, schema["items"], depth))
        more = "" if most is None else most - 1
        several = f'{item} ("," {item}){{{max(least - 1, 0)},{more}}}'
        return f'"[" {several} "]"' if least else f'"[" ({several})? "]"'

    def _entries(self, key: str, schema: Mapping[str, Any], depth: int) -> str:
        """Keys in alphabetical order, as Gemma's templates write them."""
        for name in sorted(set(schema) - OF_OBJECTS):
            raise NoTaggedValue(f"the keyword {name} of {key}")
        properties = schema.get("properties")
        required = schema.get("required") or ()
        if schema.get("additionalProperties") or not isinstance(properties, Mapping):
            raise NoTaggedValue(f"the keyword additionalProperties of {key}")
        if not set(required) <= set(properties) or not all(map(KEY.fullmatch, properties)):
            raise NoTaggedValue(f"the keyword required of {key}, or a name in it")
        first, more, may_be_empty = "", "", True
        for name, inner in sorted(properties.items(), reverse=True):
            value = self._value(name, inner, depth)
            entry = self._rules.rule("entry", f"{self._rules.literal(f'{name}:')} {value}")
            if name in required:
                first, may_be_empty = f"{entry} {more}", False
                more = self._rules.rule("more", f'"," {entry} {more}')
            else:
                either = f"({entry} {more} | {first})" if first else f"({entry} {more})"
                first = f"{either}?" if may_be_empty else either
                first = self._rules.rule("first", first)
                more = self._rules.rule("more", f'("," {entry})? {more}')
        return first
