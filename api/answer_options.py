"""How a chat wants its answer to be read and held."""

import msgspec

from api.tool_calls import ToolUse


class AnswerOptions(msgspec.Struct, frozen=True):
    """How a request wants its answer to be read."""

    tools: ToolUse = ToolUse()
    parse_reasoning: bool = True
    """Whether what was thought is parted from the text."""
    show_reasoning: bool = True
    """Whether what was thought is given at all."""
    reasoning_budget: int | None = None
    """Most tokens of what is thought, without the marks around it."""
