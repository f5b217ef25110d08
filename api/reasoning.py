"""The fields of a chat about reasoning, by the names of several servers."""

from collections.abc import Mapping
from typing import Any

from api.answer_options import AnswerOptions
from api.completions import NO_LIMIT, OpenAIBody
from api.schemas import Number, one_of, whole
from api.tool_calls import ToolUse
from runtime.errors import InvalidRequest

BUDGETS = ("thinking_token_budget", "thinking_budget", "thinking_budget_tokens", "reasoning_budget")
"""Names of the budget of reasoning tokens: vLLM's, DashScope's and two of llama.cpp."""


ENABLED: Mapping[Any, bool] = {"disabled": False, "enabled": True, "adaptive": True, "auto": True}
"""Values of `thinking`'s type."""


class ReasoningBody(OpenAIBody, frozen=True, kw_only=True):
    """The fields of a chat's body about reasoning; null means the default."""

    include_reasoning: bool | None = None
    """vLLM's: whether the answer contains the reasoning."""
    separate_reasoning: bool | None = None
    """SGLang's: whether reasoning is separated from the text."""
    reasoning_format: str | None = None
    """llama.cpp's: `none` leaves reasoning in the text."""
    thinking_token_budget: Number | None = None
    thinking_budget: Number | None = None
    thinking_budget_tokens: Number | None = None
    reasoning_budget: Number | None = None
    thinking: dict[str, Any] | bool | None = None
    """Anthropic's and others': whether the model reasons (`type`), and `budget_tokens`."""
    reasoning: dict[str, Any] | bool | None = None
    """OpenRouter's: `enabled`, `effort`, `max_tokens` and `exclude`."""

    def options(self, tools: ToolUse) -> AnswerOptions:
        """Return the options for reading the answer. Raises InvalidRequest naming a wrong field."""
        if self.reasoning_format not in (None, "none", "auto", "deepseek"):
            raise InvalidRequest(
                'reasoning_format must be "auto", "deepseek" or "none"', field="reasoning_format"
            )
        excluded = _entry(self.reasoning, "exclude") is True
        return AnswerOptions(
            tools,
            parse_reasoning=self.separate_reasoning is not False
            and self.reasoning_format != "none",
            show_reasoning=self.include_reasoning is not False and not excluded,
            reasoning_budget=self._budget(),
        )

    def reasoning_variables(self) -> dict[str, Any]:
        """Return the template variables for `thinking` and `reasoning`."""
        variables: dict[str, Any] = {}
        effort = _entry(self.reasoning, "effort")
        if isinstance(effort, str):
            variables["reasoning_effort"] = effort
        for given, said in (
            (self.reasoning, _entry(self.reasoning, "enabled")),
            (self.thinking, ENABLED.get(_entry(self.thinking, "type"))),
        ):
            enabled = given if isinstance(given, bool) else said
            if isinstance(enabled, bool):
                variables |= {"enable_thinking": enabled, "thinking": enabled}
        return variables

    def _budget(self) -> int | None:
        found = one_of(self, *BUDGETS)
        for field, name in (("thinking", "budget_tokens"), ("reasoning", "max_tokens")):
            if found is None and (value := _entry(getattr(self, field), name)) is not None:
                found = f"{field}.{name}", value
        if found is None:
            return None
        name, value = found
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidRequest(f"{name} must be a number", field=name)
        return None if value == NO_LIMIT else whole(name, value, 0)


def _entry(given: dict[str, Any] | bool | None, name: str) -> Any:
    """An entry of a field that is an object."""
    value = given.get(name) if isinstance(given, dict) else None
    return value if isinstance(value, str | int | float) else None
