"""The fields of a request that constrain its answer.

Sources of the names: OpenAI's API reference (`response_format`), tools/server/README.md of
llama.cpp (`json_schema`, `grammar`), and vLLM's structured outputs (`structured_outputs`, and the
`guided_` fields before them).
"""

from typing import Any

import msgspec

from api.schemas import SamplingFields
from runtime.errors import InvalidRequest
from runtime.grammar import Grammar


class StructuredBody(SamplingFields, frozen=True, kw_only=True):
    """The fields of a body of which at most one may be given; null means none."""

    response_format: dict[str, Any] | None = None
    json_schema: dict[str, Any] | bool | None = None
    grammar: str | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: dict[str, Any] | None = None

    def grammar_of_answer(self) -> Grammar | None:
        """Return the grammar of the answer, if one is requested.

        Raises InvalidRequest naming the field that does not fit, or two that exclude each other.
        """
        found = {
            "response_format": self.response_format and _of_format(self.response_format),
            "json_schema": _of_schema(self.json_schema, "json_schema"),
            "grammar": Grammar.gbnf(self.grammar, field="grammar") if self.grammar else None,
            "structured_outputs": self.structured_outputs and _of_vllm(self.structured_outputs),
        }
        for name in ("json", "regex", "choice", "grammar"):
            value = getattr(self, f"guided_{name}")
            if value not in (None, "", []):
                found[f"guided_{name}"] = _of_kind(name, value, f"guided_{name}")
        asked = {name: grammar for name, grammar in found.items() if grammar}
        if len(asked) > 1:
            raise InvalidRequest(f"only one of {' and '.join(asked)} can be held")
        return next(iter(asked.values()), None)


def _of_format(given: dict[str, Any]) -> Grammar | None:
    """Return the grammar of OpenAI's response_format; a schema in json_object is llama.cpp's."""
    field = "response_format"
    match given.get("type"):
        case "text":
            return None
        case "json_object":
            schema = given.get("schema")
            return _of_schema({"type": "object"} if schema is None else schema, f"{field}.schema")
        case "json_schema":
            inner = given.get("json_schema")
            schema = inner.get("schema") if isinstance(inner, dict) else given.get("schema")
            if schema is None:
                raise InvalidRequest(
                    "response_format.json_schema.schema is missing",
                    field=f"{field}.json_schema.schema",
                )
            return _of_schema(schema, f"{field}.json_schema.schema")
    raise InvalidRequest(
        "response_format.type must be text, json_object or json_schema", field=f"{field}.type"
    )


def _of_vllm(given: dict[str, Any]) -> Grammar | None:
    """The grammar of vLLM's structured_outputs: one of its kinds."""
    asked = {name: value for name, value in given.items() if value not in (None, False)}
    compact = bool(asked.pop("disable_any_whitespace", False))
    if not asked:
        return None
    (name, value), *others = asked.items()
    if others:
        raise InvalidRequest(
            f"structured_outputs can hold only one of {name} and {others[0][0][:64]}",
            field="structured_outputs",
        )
    return _of_kind(name, value, f"structured_outputs.{name[:64]}", compact=compact)


def _of_kind(name: str, value: Any, field: str, *, compact: bool = False) -> Grammar:
    """A grammar of one of vLLM's kinds."""
    match name, value:
        case "json", str(text):
            return Grammar.json_schema(_parsed(text, field), field=field, white_space=not compact)
        case "json", dict() | bool():
            return Grammar.json_schema(value, field=field, white_space=not compact)
        case "json_object", True:
            return Grammar.json_schema({"type": "object"}, field=field, white_space=not compact)
        case "regex", str(pattern):
            return Grammar.regex(pattern, field=field)
        case "choice", [*texts] if all(isinstance(text, str) for text in texts):
            return Grammar.choice(texts, field=field)
        case "grammar", str(text):
            return Grammar.gbnf(text, field=field)
        case "json" | "json_object" | "regex" | "choice" | "grammar", _:
            raise InvalidRequest(f"{field} has a value of another type", field=field)
    raise InvalidRequest(f"{field} is not supported: leave it out", field=field)


def _of_schema(schema: Any, field: str) -> Grammar | None:
    return None if schema is None else Grammar.json_schema(schema, field=field)


def _parsed(text: str, field: str) -> Any:
    """Parse a schema that was given as text."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"{field} is no JSON", field=field) from None
