"""How one model's answer to a chat is read, and which grammar and budget hold it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.answer_options import AnswerOptions
from api.served_models import ServedModel
from runtime.chat import ChatTemplate
from runtime.chat.answer_formats import HERMES
from runtime.chat.answer_parser import AnswerForm
from runtime.errors import InvalidRequest
from runtime.grammar import (
    Calls,
    Grammar,
    Thinking,
    answer_grammar,
    arguments_schema,
    fitting_calls,
    unfitting,
)
from runtime.thought_limit import ThoughtLimit

TAIL = 64
"""Number of last prompt tokens searched for the marks of reasoning."""
ANY_ARGUMENTS = {"type": "object"}


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How one answer is read and held. Immutable."""

    read: AnswerForm
    calls: Calls | None
    """Calls that a grammar is to hold."""
    thinking: Thinking | None
    """How the answer may begin with reasoning, if the model has any."""

    @classmethod
    def of(
        cls,
        model: ServedModel,
        options: AnswerOptions,
        prompt: Sequence[int],
        *,
        has_form: bool = False,
    ) -> "ChatForm":
        """The form of an answer to a prompt; `has_form`: whether a grammar holds its text.

        Raises InvalidRequest where calls are to be strict and no grammar can hold them.
        """
        template = ChatTemplate(model.tokenizer, source=model.chat_template)
        offered = options.tools
        format = template.tools() if offered.tools else None
        reasoning = template.reasoning(with_tools=format is not None)
        tail = b"".join(map(model.tokenizer.token_piece, prompt[-TAIL:])).decode("utf-8", "replace")
        begun = tail.rstrip().endswith(reasoning.start)
        may_think = (
            template.reasons(with_tools=format is not None)
            and options.parse_reasoning
            and not tail.rstrip().endswith(reasoning.end)
        )
        calls = None
        if format is not None and (offered.forced or offered.strict or has_form):
            own = template.written_calls()
            schemas = {name: _arguments(options, name) for name in offered.schemas}
            written = fitting_calls(own, schemas)
            if offered.forced and written is not own:
                format = HERMES
            elif offered.strict and written is not own:
                raise InvalidRequest(
                    f"the calls of this model ({format.name}) cannot be held to a strict schema "
                    f"of these tools, for {unfitting(own, schemas)}; leave strict or the keyword "
                    "out, or force a call with tool_choice",
                    field="tools",
                )
            if written is own or offered.forced:
                calls = Calls(schemas, written, format, offered.forced, offered.parallel)
        return cls(
            AnswerForm(
                reasoning if options.parse_reasoning else None,
                format,
                offered.schemas,
                begun and options.parse_reasoning,
            ),
            calls,
            Thinking(reasoning, begun) if begun or may_think else None,
        )


def grammar_of_answer(
    model: ServedModel, options: AnswerOptions, prompt: Sequence[int], form: Grammar | None
) -> Grammar | None:
    """Return the grammar of a whole chat answer, including its reasoning and its calls.

    `form`: the grammar of its text. Raises InvalidRequest as ChatForm.of does, and if a
    tool's schema has a keyword that is not supported.
    """
    tools = options.tools
    if form is None and not tools.forced and not tools.strict:
        return None
    chat = ChatForm.of(model, options, prompt, has_form=form is not None)
    if tools.forced:
        form = None
    if form is not None and chat.calls is None and chat.thinking is None:
        return form
    field = form.field if form is not None else "tool_choice" if tools.forced else "tools"
    return answer_grammar(
        model.tokenizer, field=field, thinking=chat.thinking, form=form, calls=chat.calls
    )


def thought_limit(
    model: ServedModel, options: AnswerOptions, prompt: Sequence[int]
) -> ThoughtLimit | None:
    """Tokens that end reasoning that exceeds its budget, if one is set."""
    if options.reasoning_budget is None:
        return None
    template = ChatTemplate(model.tokenizer, source=model.chat_template)
    reasoning = template.reasoning(with_tools=bool(options.tools.tools))
    tail = b"".join(map(model.tokenizer.token_piece, prompt[-TAIL:])).decode("utf-8", "replace")
    begun = tail.rstrip().endswith(reasoning.start)
    return ThoughtLimit(model.tokenizer, reasoning, begun=begun, budget=options.reasoning_budget)


def _arguments(options: AnswerOptions, name: str) -> dict[str, Any]:
    """Return the schema of a call's arguments."""
    tools = options.tools
    schema = dict(arguments_schema(tools.schemas[name]))
    if tools.forced or name in tools.strict:
        return schema
    try:
        Grammar.json_schema(schema, field="tools")
    except InvalidRequest:
        return ANY_ARGUMENTS
    return schema
