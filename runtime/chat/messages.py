"""Messages as a template gets them: every field, in the form that templates are written for."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.chat.budget import CALL, MAX_DEPTH, Budget
from runtime.chat.syntax import CONTENT, Reads
from runtime.chat.text import NoText, TemplateText
from runtime.errors import InvalidRequest
from runtime.tokenizer import well_formed

Message = Mapping[str, Any]
"""`role`, `content` (a string, parts or None), and other fields that a template may read."""

ROLES = frozenset(
    {
        *("system", "developer", "user", "assistant", "tool", "function", "model", "ipython"),
        *("observation", "tool_response", "human", "bot"),
    }
)
"""Roles that count as the template's own text."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Field names for the reasoning before an answer."""

MOST_SHOWN = 40
"""Characters of an unknown part type in an error message."""

TEXT_PARTS = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    "refusal": "refusal",
}
"""Types of parts that are text, and the field that has it."""


def for_template(messages: Iterable[Message], reads: Reads, budget: Budget) -> list[dict[str, Any]]:
    """Return the messages in the form that a template reads.

    Fields that are None and empty lists of tool calls are dropped. A content is a list of parts if
    the template iterates them, else a string; NoText if there is none.
    Raises InvalidRequest for a part that is not text, and what `plain` raises.
    """
    return [_message(message, reads, budget) for message in messages]


def plain(value: Any, budget: Budget, level: int = 0) -> Any:
    """A value of JSON, with every text in it as UTF-8 can hold it and none the template's own.

    Raises InvalidRequest if it is nested too deep, and Exhausted if it is too large.
    """
    budget.spend(CALL // 2)
    if isinstance(value, str):
        budget.spend(len(value) >> 2)
        return well_formed(str.__str__(value))
    if level > MAX_DEPTH - 10:
        raise InvalidRequest(f"a value is nested deeper than {MAX_DEPTH - 10} levels; flatten it")
    if isinstance(value, Mapping):
        return {
            plain(key, budget, level): plain(each, budget, level + 1) for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(each, budget, level + 1) for each in value]
    return value


def _message(message: Message, reads: Reads, budget: Budget) -> dict[str, Any]:
    made = {
        name: plain(value, budget)
        for name, value in message.items()
        if value is not None or name == CONTENT
    }
    if made["role"] in ROLES:
        made["role"] = TemplateText.wholly_own(made["role"])
    made[CONTENT] = _content(made.get(CONTENT), reads)
    if calls := made.get("tool_calls"):
        made["tool_calls"] = [_call(call, budget) for call in _listed(calls)]
    else:
        made.pop("tool_calls", None)
    if isinstance(single := made.get("function_call"), dict):
        made["function_call"] = _with_arguments(single, budget)
    _name_reasoning(made, reads)
    return made


def _content(content: Any, reads: Reads) -> Any:
    if content is None:
        return NoText()
    if isinstance(content, str):
        as_parts = reads.parts and not reads.asks_for_text
        return [{"type": "text", "text": content}] if as_parts else content
    parts = [_part(part) for part in _listed(content)]
    return parts if reads.parts else "".join(part["text"] for part in parts)


def _part(part: Any) -> dict[str, Any]:
    """A part of type text."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or kind not in TEXT_PARTS:
        shown = repr(kind if kind is None else str(kind)[:MOST_SHOWN])
        raise InvalidRequest(f"a message has a part of type {shown}; only text is served")
    text = part.get(TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise InvalidRequest(f"a message has a part of type {kind!r} whose text is missing")
    return {**part, "type": "text", "text": text}


def _call(call: Any, budget: Budget) -> Any:
    """A tool call, in OpenAI's form or that of its function alone, with a mapping of arguments."""
    if not isinstance(call, dict):
        raise InvalidRequest("tool_calls must be objects")
    if isinstance(function := call.get("function"), dict):
        return {**call, "function": _with_arguments(function, budget)}
    return _with_arguments(call, budget)


def _with_arguments(function: dict[str, Any], budget: Budget) -> dict[str, Any]:
    if "arguments" not in function:
        return function
    return {**function, "arguments": _mapping(function["arguments"], budget)}


def _mapping(arguments: Any, budget: Budget) -> Any:
    """Return arguments as a mapping; OpenAI's format has them as the text of a JSON object.

    Other text, as of a truncated call, becomes the value of `arguments`.
    """
    if isinstance(arguments, str):
        budget.spend(20 * len(arguments))
        try:
            arguments = plain(json.loads(arguments, parse_constant=_no_constant), budget)
        except RecursionError:
            raise InvalidRequest("the arguments of a tool call are nested too deep") from None
        except ValueError:
            arguments = arguments if arguments.strip() else None
    if isinstance(arguments, dict):
        return arguments
    return {} if arguments is None else {"arguments": arguments}


def _name_reasoning(message: dict[str, Any], reads: Reads) -> None:
    """Rename the reasoning field to the one that the template reads."""
    known = [name for name in REASONING if isinstance(message.get(name), str)]
    read = [name for name in REASONING if name in reads.names]
    if known and read and not any(name in read for name in known):
        message[read[0]] = message[known[0]]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest("content and tool_calls of a message must be lists, or left out")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
