"""The parts of one chat answer: text, reasoning and tool calls."""

from collections.abc import Sequence

import msgspec

from api.answer_form import ChatForm
from api.answer_options import AnswerOptions
from api.served_models import ServedModel
from api.tool_calls import ToolCall, tool_call
from runtime.chat.answer_parser import AnswerParser, Said, Thought
from runtime.chat.tool_call_parsers import Call


class Addition(msgspec.Struct, frozen=True):
    """An addition to an answer: one of these."""

    content: str = ""
    reasoning: str = ""
    call: ToolCall | None = None


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
    def complete(self) -> bool:
        """Whether the answer is complete: one call was requested, and it is there."""
        return bool(self.calls) and not self._options.tools.parallel

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
                    call = tool_call(part, short_id=self._short_ids)
                    self.calls += (call,)
                    added.append(Addition(call=call))
        return added
