"""The options that decide how a chat's answer is parsed and constrained."""

import msgspec

from api.tool_calls import ToolUse


class AnswerOptions(msgspec.Struct, frozen=True):
    """A request's options for parsing its answer."""

    tools: ToolUse = ToolUse()
    parse_reasoning: bool = True
    """Whether reasoning is separated from the text."""
    show_reasoning: bool = True
    """Whether reasoning is part of the answer."""
    reasoning_budget: int | None = None
    """Maximum tokens of reasoning, without the marks around it."""
