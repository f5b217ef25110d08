"""Chat templates as Hugging Face's transformers renders them: what ours is compared with.

Its environment is Jinja's sandbox with trimmed blocks, loop controls, `generation` blocks, a tojson
of its own, raise_exception and strftime_now.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime(2026, 7, 26)
"""The time for templates."""
BOS, EOS = "<s>", "</s>"

Message = Mapping[str, Any]


class Generation(Extension):
    """`{% generation %}`, whose content is printed by a macro."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """A call block around the content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_content")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _content(self, caller: Any) -> Any:
        return caller()


def compiled(source: str) -> Template:
    """A template in transformers' environment."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = NOW.strftime
    return environment.from_string(source)


def rendered(source: str, messages: Sequence[Message], variables: Mapping[str, Any]) -> str:
    """The prompt of a conversation. Raises whatever the template raises."""
    given = {"tools": None, "documents": None, **variables}
    return compiled(source).render(
        messages=[with_mappings(message) for message in messages],
        add_generation_prompt=True,
        bos_token=BOS,
        eos_token=EOS,
        **given,
    )


def with_mappings(message: Message) -> dict[str, Any]:
    """A message whose tool calls have their arguments as transformers wants them, as mappings."""
    calls = message.get("tool_calls")
    if calls is None:
        return dict(message)
    parsed = [
        {**call, "function": {**call["function"], "arguments": _arguments(call["function"])}}
        for call in calls
    ]
    return {**message, "tool_calls": parsed}


def _arguments(function: Mapping[str, Any]) -> Any:
    return json.loads(function["arguments"])


def _to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: object) -> None:
    raise TemplateError(str(message))
