"""Tools of a chat, as OpenAI's requests offer them, and calls of them as its answers have them."""

import secrets
import string
from collections.abc import Iterable, Mapping
from typing import Any, Self

import msgspec

from runtime.chat.tool_call_parsers import Call
from runtime.errors import InvalidRequest
from runtime.grammar import Grammar, arguments_schema

MAX_TOOLS = 1024
MAX_NAME_LENGTH = 256
SHORT_ID = 9
"""Length of an id for models whose template accepts no longer ones."""


class ToolUse(msgspec.Struct, frozen=True):
    """Which tools a request offers, and how they may be called."""

    tools: tuple[dict[str, Any], ...] = ()
    """As passed to the template."""
    schemas: dict[str, dict[str, Any]] = {}
    """The JSON schema of each one's parameters, by its name."""
    parallel: bool = True
    """Whether one answer may have several calls."""
    forced: bool = False
    """Whether the answer must be a call."""
    named: bool = False
    """Whether the request names the one tool to call."""
    strict: frozenset[str] = frozenset()
    """Tools whose calls must be valid."""

    @classmethod
    def of(cls, tools: list[Any] | None, choice: Any, parallel: bool | None) -> Self:
        """Read the fields of a request. Raises InvalidRequest naming the one that does not fit."""
        schemas: dict[str, dict[str, Any]] = {}
        strict: set[str] = set()
        if tools is not None and len(tools) > MAX_TOOLS:
            raise InvalidRequest(f"tools must be at most {MAX_TOOLS}", field="tools")
        for place, tool in enumerate(tools or ()):
            name, schema = _checked(f"tools[{place}]", tool)
            if name in schemas:
                raise InvalidRequest(
                    f"tools[{place}].function.name is that of another tool; rename one",
                    field="tools",
                )
            schemas[name] = schema
            if tool["function"].get("strict"):
                strict.add(name)
        chosen = _Choice.of(choice, schemas)
        if choice == "none" or not tools:
            return cls()
        kept = {name: schema for name, schema in schemas.items() if name in chosen.names}
        for name, schema in kept.items():
            if chosen.forced or name in strict:
                Grammar.json_schema(arguments_schema(schema), field=f"tools[{name}].parameters")
        return cls(
            tuple(tool for tool in tools if tool["function"]["name"] in kept),
            kept,
            parallel is not False and not chosen.named,
            chosen.forced,
            chosen.named,
            frozenset(strict & set(kept)),
        )


NO_TOOLS = ToolUse()


class CalledFunction(msgspec.Struct, frozen=True):
    """The called function."""

    name: str
    arguments: str
    """The text of a JSON object."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in an answer."""

    id: str
    type: str = "function"
    function: CalledFunction


class FunctionDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to a called function."""

    arguments: str
    name: str | msgspec.UnsetType = msgspec.UNSET


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chunk adds to a call: the first one has its id and name."""

    index: int
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: str | msgspec.UnsetType = msgspec.UNSET
    function: FunctionDelta


def tool_call(call: Call, *, short_id: bool) -> ToolCall:
    """A call, with an id that no other one has."""
    made = _short_id() if short_id else f"call_{secrets.token_hex(12)}"
    return ToolCall(id=call.id or made, function=CalledFunction(call.name, call.arguments))


def _short_id() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(SHORT_ID))


def _checked(place: str, tool: Any) -> tuple[str, dict[str, Any]]:
    """A tool's name and the schema of its parameters."""
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        raise InvalidRequest(f'{place} must be an object of type "function"', field="tools")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest(f"{place}.function must be an object", field="tools")
    name = function.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise InvalidRequest(
            f"{place}.function.name must be a text of 1 to {MAX_NAME_LENGTH} characters",
            field="tools",
        )
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest(f"{place}.function.parameters must be an object", field="tools")
    if function.get("strict") not in (None, True, False):
        raise InvalidRequest(f"{place}.function.strict must be true or false", field="tools")
    return name, parameters or {}


class _Choice(msgspec.Struct, frozen=True):
    """Return the meaning of tool_choice."""

    names: frozenset[str]
    """Tools that may be called."""
    forced: bool = False
    named: bool = False

    @classmethod
    def of(cls, choice: Any, schemas: Mapping[str, Any]) -> Self:
        """Read the field. Raises InvalidRequest."""
        match choice:
            case None | "none" | "auto":
                return cls(frozenset(schemas))
            case "required" | "any":
                _expect_tools(schemas)
                return cls(frozenset(schemas), forced=True)
            case {"type": "function", "function": {"name": str(name)}}:
                return cls(_known((name,), schemas), forced=True, named=True)
            case {"type": "function", "name": str(name)}:
                return cls(_known((name,), schemas), forced=True, named=True)
            case {"type": "allowed_tools", "allowed_tools": dict(allowed)}:
                return cls._of_allowed(allowed, schemas)
        raise InvalidRequest(
            'tool_choice must be "auto", "none", "required", a function by its name, or '
            "allowed_tools",
            field="tool_choice",
        )

    @classmethod
    def _of_allowed(cls, allowed: Mapping[str, Any], schemas: Mapping[str, Any]) -> Self:
        """OpenAI's choice among some of the tools."""
        listed = allowed.get("tools")
        names = [_name_of(tool) for tool in listed] if isinstance(listed, list) else []
        mode = allowed.get("mode")
        if not names or None in names or mode not in ("auto", "required"):
            raise InvalidRequest(
                'tool_choice.allowed_tools must have a mode, "auto" or "required", and a list of '
                "functions by their names",
                field="tool_choice",
            )
        return cls(_known(filter(None, names), schemas), forced=mode == "required")


def _name_of(tool: Any) -> str | None:
    match tool:
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
    return None


def _known(names: Iterable[str], schemas: Mapping[str, Any]) -> frozenset[str]:
    """The names. Raises InvalidRequest where tools has none of one of them."""
    _expect_tools(schemas)
    found = frozenset(names)
    for name in sorted(found - set(schemas)):
        raise InvalidRequest(
            f"tool_choice names {name[:MAX_NAME_LENGTH]}, which is not in tools",
            field="tool_choice",
        )
    return found


def _expect_tools(schemas: Mapping[str, Any]) -> None:
    if not schemas:
        raise InvalidRequest(
            "tool_choice forces a call, but there are no tools", field="tool_choice"
        )
