"""Tools of a chat, as OpenAI's requests offer them, and calls of them as its answers have them."""

import secrets
import string
from typing import Any, Self

import msgspec

from runtime.chat.calls import Call
from runtime.errors import InvalidRequest

MAX_TOOLS = 1024
MAX_NAME_LENGTH = 256
SHORT_ID = 9
"""Letters and digits of an id where the model's template takes no longer ones."""


class ToolUse(msgspec.Struct, frozen=True):
    """Which tools a request offers, and how they may be called."""

    tools: tuple[dict[str, Any], ...] = ()
    """As the template is told of them."""
    schemas: dict[str, dict[str, Any]] = {}
    """The JSON schema of each one's parameters, by its name."""
    parallel: bool = True
    """Whether one answer may have several calls."""

    @classmethod
    def of(cls, tools: list[Any] | None, choice: Any, parallel: bool | None) -> Self:
        """Read the fields of a request. Raises InvalidRequest naming the one that does not fit."""
        schemas: dict[str, dict[str, Any]] = {}
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
        _check_choice(choice, schemas)
        if choice == "none" or not tools:
            return cls()
        return cls(tuple(tools), schemas, parallel is not False)


NO_TOOLS = ToolUse()


class CalledFunction(msgspec.Struct, frozen=True):
    """What is called."""

    name: str
    arguments: str
    """The text of a JSON object."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in an answer."""

    id: str
    type: str = "function"
    function: CalledFunction


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a chunk adds, whole."""

    index: int
    id: str
    type: str = "function"
    function: CalledFunction


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
    if function.get("strict"):
        raise InvalidRequest(
            f"{place}.function.strict is not supported: leave it out, or send false", field="tools"
        )
    return name, parameters or {}


def _check_choice(choice: Any, schemas: dict[str, dict[str, Any]]) -> None:
    if choice in (None, "none", "auto"):
        return
    if choice == "required" or isinstance(choice, dict):
        raise InvalidRequest(
            'tool_choice can force no call yet: leave it out, or send "auto" or "none"',
            field="tool_choice",
        )
    raise InvalidRequest('tool_choice must be "auto" or "none"', field="tool_choice")
