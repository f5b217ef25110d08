"""Conversations as clients send them, one for each thing that templates do differently."""

from collections.abc import Mapping
from typing import Any, NamedTuple

USER: dict[str, Any] = {"role": "user", "content": "Hi"}
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be brief."}
HELLO: dict[str, Any] = {"role": "assistant", "content": "Hello"}
AND: dict[str, Any] = {"role": "user", "content": "And?"}
CALL: dict[str, Any] = {
    "id": "call12345",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1}'},
}
RESULT: dict[str, Any] = {
    "role": "tool",
    "tool_call_id": "call12345",
    "name": "add",
    "content": "2",
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds <a> & 'b'",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": "é"}},
                "required": ["a"],
            },
        },
    }
]


class Conversation(NamedTuple):
    """Messages and the template's other variables."""

    messages: tuple[Mapping[str, Any], ...]
    variables: Mapping[str, Any] = {}


THOUGHT = {**HELLO, "reasoning_content": "hm"}
MARKED = {**HELLO, "content": "<think>\nhm\n</think>\n\nHello"}
PARTS = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}

CONVERSATIONS: dict[str, Conversation] = {
    "user": Conversation((USER,)),
    "system": Conversation((SYSTEM, USER)),
    "turns": Conversation((USER, HELLO, AND)),
    "system and turns": Conversation((SYSTEM, USER, HELLO, AND)),
    "spaces": Conversation(({**USER, "content": "  Hi \n\n"},)),
    "reasoning": Conversation((USER, THOUGHT, USER)),
    "think in the content": Conversation((USER, MARKED, USER)),
    "no thinking": Conversation((USER,), {"enable_thinking": False}),
    "thinking": Conversation((USER,), {"thinking": True, "enable_thinking": True}),
    "effort": Conversation((USER,), {"reasoning_effort": "low"}),
    "parts": Conversation(({**USER, "content": PARTS},)),
    "call": Conversation((USER, {**CALLING, "content": None}, RESULT)),
    "call beside an empty text": Conversation((USER, CALLING, RESULT)),
    "tools": Conversation((USER,), {"tools": TOOLS}),
    "tools and a call": Conversation((USER, CALLING, RESULT), {"tools": TOOLS}),
    "developer": Conversation(({**SYSTEM, "role": "developer"}, USER)),
}
