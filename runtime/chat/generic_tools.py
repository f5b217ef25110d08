"""Tools for templates without tool support: described in words, called in JSON between marks."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.finite_json import finite_json

REFUSES_SYSTEM = ("system role not supported", "system messages are not supported")

WORDS = """\
You may call functions to answer. Each is described by a JSON object:
{tools}
To call one, answer with a JSON object that has its name and arguments, between two marks:
<tool_call>
{{"name": "name of the function", "arguments": {{"name of an argument": "value"}}}}
</tool_call>
Its result then comes between <tool_response> and </tool_response>."""


def with_tools(
    messages: Sequence[Mapping[str, Any]], tools: Any, template: str
) -> list[Mapping[str, Any]]:
    """Return the conversation with tools in a system message, and calls and results as text.

    If the template has no system message, they are put before the first message.
    """
    listed = "\n".join(finite_json(tool).decode() for tool in tools)
    instructions = WORDS.format(tools=listed)
    made = [_as_text(message) for message in messages]
    if made and made[0].get("role") in ("system", "developer"):
        return [{**made[0], "content": _joined(made[0].get("content"), instructions)}, *made[1:]]
    refuses = any(words in template.lower() for words in REFUSES_SYSTEM)
    if made and (refuses or "system" not in template):
        return [{**made[0], "content": _joined(instructions, made[0].get("content"))}, *made[1:]]
    return [{"role": "system", "content": instructions}, *made]


def _as_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if message.get("role") == "tool":
        result = _text(message.get("content"))
        return {"role": "user", "content": f"<tool_response>\n{result}\n</tool_response>"}
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list) or not calls:
        return message
    written = [f"<tool_call>\n{_call(call)}\n</tool_call>" for call in calls]
    content = "\n".join(filter(None, [_text(message.get("content")), *written]))
    return {**message, "content": content, "tool_calls": None}


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    given = function.get("arguments") if isinstance(function, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    arguments = (
        given if isinstance(given, str) and given.strip() else finite_json(given or {}).decode()
    )
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'


def _joined(first: Any, second: Any) -> str:
    return "\n\n".join(filter(None, (_text(first), _text(second))))


def _text(content: Any) -> str:
    """The text of a content, which is one or a list of parts."""
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
