"""The parts of one chat answer: text, reasoning and tool calls."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from api.answer_form import ChatForm
from api.answer_options import AnswerOptions
from api.served_models import ServedModel
from api.tool_calls import CalledFunction, FunctionDelta, ToolCall, ToolCallDelta, tool_call
from runtime.chat.answer_parser import AnswerParser, Said, Thought
from runtime.chat.tool_call_parsers import Call

BETWEEN_PARTS = re.compile(r'("(?:[^"\\]|\\.)*"?)|\s+', re.DOTALL)
"""White space between parts of JSON, or a string."""


class Addition(msgspec.Struct, frozen=True):
    """An addition to an answer: one of these."""

    content: str = ""
    reasoning: str = ""
    call: ToolCallDelta | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """What a stream has of a call that is not complete. Immutable."""

    call: ToolCall
    """With the arguments so far."""
    index: int


class ChatAnswer:
    """Parses the text of one answer as it arrives. Owned by one thread."""

    def __init__(
        self, model: ServedModel, options: AnswerOptions, prompt_tokens: Sequence[int]
    ) -> None:
        """Take the model, how its answer is to be read, and the prompt before it."""
        self._options = options
        self._form = ChatForm.of(model, options, prompt_tokens).read
        self._parser = AnswerParser(self._form)
        self._short_ids = self._form.tools is not None and self._form.tools.short_ids
        self.content = ""
        self.reasoning = ""
        self.calls: tuple[ToolCall, ...] = ()
        self._given: _Given | None = None
        self._next_index = 0
        self._repeats = False
        """Whether a forced call was the one before it once more; it is left out."""
        self.reasoning_tokens = 0
        """Tokens of thoughts, with the marks around them."""

    @property
    def marks(self) -> frozenset[str]:
        """Names of control tokens that belong to the text."""
        return self._form.marks

    @property
    def named(self) -> bool:
        """Whether the request names the tool that is called."""
        return self._options.tools.named

    @property
    def may_complete(self) -> bool:
        """Whether the answer may be complete before its generation ends."""
        tools = self._options.tools
        return bool(tools.tools) and (tools.forced or not tools.parallel)

    @property
    def complete(self) -> bool:
        """Whether the answer is complete: the one requested call, or all that a model repeats."""
        return self._repeats or (bool(self.calls) and not self._options.tools.parallel)

    def add(self, text: str, *, ended: bool) -> list[Addition]:
        """Add the text of one token, and the rest if the answer has ended."""
        if self.complete:
            return []
        thought = self._parser.thinking
        parts = self._parser.feed(text)
        if thought or self._parser.thinking:
            self.reasoning_tokens += 1
        added: list[Addition] = []
        for part in parts + (self._parser.flush() if ended else []):
            if self.complete:
                break
            match part:
                case Said():
                    self.content += part.text
                    added.append(Addition(content=part.text))
                case Thought() if self._options.show_reasoning:
                    self.reasoning += part.text
                    added.append(Addition(reasoning=part.text))
                case Call():
                    added += map(_call_addition, self._complete(part))
            if not isinstance(part, Call):
                self._given = None  # what it began was no call
        if not self.complete:
            added += map(_call_addition, self._begin())
        return added

    def _complete(self, part: Call) -> Iterator[ToolCallDelta]:
        """Take a complete call and yield what the stream does not have of it."""
        given, self._given = self._given, None
        if self._options.tools.forced and self._repeated(part):
            self._repeats = True
            return
        call = tool_call(part, short_id=self._short_ids)
        if given is None or given.call.function.name != part.name:
            self.calls += (call,)
            yield self._first_delta(call)
            return
        self.calls += (msgspec.structs.replace(call, id=given.call.id),)
        sent = given.call.function.arguments
        if len(part.arguments) > len(sent) and part.arguments.startswith(sent):
            yield _more(given.index, part.arguments[len(sent) :])

    def _begin(self) -> Iterator[ToolCallDelta]:
        """Yield what is new of a call that has begun: its name first, then its arguments."""
        begun = self._parser.begun
        if begun is None:
            return
        arguments = begun.arguments
        if self._given is None and self._may_repeat(begun.name, arguments):
            return
        if self._given is None:
            part = Call(begun.name, arguments, begun.id)
            call = tool_call(part, short_id=self._short_ids)
            self._given = _Given(call, self._next_index)
            yield self._first_delta(call)
        elif more := arguments[len(self._given.call.function.arguments) :]:
            function = CalledFunction(begun.name, arguments)
            call = msgspec.structs.replace(self._given.call, function=function)
            self._given = _Given(call, self._given.index)
            yield _more(self._given.index, more)

    def _repeated(self, part: Call) -> bool:
        """Whether a call is the one before it once more, white space aside."""
        last = self.calls[-1].function if self.calls else None
        return (
            last is not None
            and last.name == part.name
            and _squeezed(last.arguments) == _squeezed(part.arguments)
        )

    def _may_repeat(self, name: str, arguments: str) -> bool:
        """Whether a forced call is so far what the one before it is."""
        if not self.calls or not self._options.tools.forced:
            return False
        last = self.calls[-1].function
        return name == last.name and _squeezed(last.arguments).startswith(_squeezed(arguments))

    def _first_delta(self, call: ToolCall) -> ToolCallDelta:
        index, self._next_index = self._next_index, self._next_index + 1
        function = FunctionDelta(arguments=call.function.arguments, name=call.function.name)
        return ToolCallDelta(index=index, id=call.id, type=call.type, function=function)


def _squeezed(arguments: str) -> str:
    """Return JSON, or its beginning, without white space between its parts."""
    return BETWEEN_PARTS.sub(r"\1", arguments)


def _more(index: int, arguments: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, function=FunctionDelta(arguments=arguments))


def _call_addition(call: ToolCallDelta) -> Addition:
    return Addition(call=call)
