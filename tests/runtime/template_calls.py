"""Tool calls through templates: what a template writes of them, our parser reads again.

Run by `make templates` for the chat templates of llama.cpp's source.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.chat import ChatTemplate
from runtime.chat.answer_parser import AnswerForm, AnswerParser
from runtime.chat.tool_call_parsers import Call
from runtime.errors import InvalidRequest
from tests.runtime.chat_attacks import TokenizerOf
from tests.runtime.transformers_chat import NOW

READ = "read as they were given"
REFUSED = "the template refuses or fails"
LEFT_OUT = "the template leaves calls out of the history"
LOST = "not read"

ARGUMENTS: dict[str, Any] = {
    "city": 'São "Paulo" & <b>\nx',
    "days": 3,
    "deep": {"a": [1, 2.5]},
    "ok": True,
}
SCHEMAS: dict[str, Any] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "deep": {"type": "object"},
            "ok": {"type": "boolean"},
        },
        "required": ["city"],
    },
    "stop_now": {"type": "object", "properties": {}},
}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (("get_weather", ARGUMENTS), ("stop_now", {}))
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
USER: dict[str, Any] = {"role": "user", "content": "Hi there"}
ENDS = ("</s>", "<|im_end|>", "<|eot_id|>")
"""What ends an answer, and is no text of it."""


@dataclass(frozen=True)
class RoundTrip:
    """What came of one or two calls in one template."""

    template: str
    format: str
    calls: int
    kind: str
    """One of the words above."""
    answer: str


def round_trips(folder: Path) -> Iterator[RoundTrip]:
    """Write calls by every template, and read them."""
    for path in sorted(folder.glob("*.jinja")):
        template = ChatTemplate(TokenizerOf(path.read_text()), lambda: NOW)  # type: ignore[arg-type]
        for count in (1, 2):
            kind, answer = _read_again(template, CALLS[:count])
            yield RoundTrip(path.stem, template.tools().name, count, kind, answer)


def _read_again(
    template: ChatTemplate, calls: tuple[tuple[str, dict[str, Any]], ...]
) -> tuple[str, str]:
    given = [
        {
            "id": f"abc12345{place}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for place, (name, arguments) in enumerate(calls)
    ]
    said: list[dict[str, Any]] = [USER, {"role": "assistant", "content": "", "tool_calls": given}]
    tools = {"tools": TOOLS}
    try:
        begun = str.__str__(template.render([USER], variables=tools))
        before = str.__str__(template.render([USER], variables=tools, add_generation_prompt=False))
        whole = str.__str__(template.render(said, variables=tools, add_generation_prompt=False))
    except InvalidRequest as error:
        return REFUSED, str(error)
    answers = [_behind(prompt, whole) for prompt in (begun, before)]
    shown = [call for call in calls if call[0] in answers[1]]
    if not shown:
        return LEFT_OUT, answers[1]
    for answer in answers:
        for end in ("", *ENDS):
            if _calls(template, answer.strip().removesuffix(end)) == shown:
                return (READ if len(shown) == len(calls) else LEFT_OUT), answer
    return LOST, answers[0]


def _behind(prompt: str, whole: str) -> str:
    """What a text has behind the beginning that it shares with a prompt."""
    shared = 0
    while shared < len(prompt) and whole.startswith(prompt[shared], shared):
        shared += 1
    return whole[shared:]


def _calls(template: ChatTemplate, answer: str) -> list[tuple[str, Any]]:
    form = AnswerForm(template.reasoning(with_tools=True), template.tools(), SCHEMAS)
    parser = AnswerParser(form)
    parts = parser.feed(answer) + parser.flush()
    return [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, Call)]
