"""Ends reasoning that exceeds its budget: the end mark replaces further tokens."""

from runtime.chat.answer_formats import ReasoningFormat
from runtime.chat.answer_parser import AnswerForm, AnswerParser
from runtime.detokenizer import StreamDecoder
from runtime.tokenizer import Tokenizer


class ThoughtLimit:
    """Counts the reasoning tokens of one answer. Owned by the engine thread.

    The marks around it do not count. When the budget is spent, a character that is split between
    tokens is completed first.
    """

    def __init__(
        self, tokenizer: Tokenizer, reasoning: ReasoningFormat, *, begun: bool, budget: int
    ) -> None:
        """begun: whether the prompt ends within reasoning. budget: maximum reasoning tokens."""
        self._decoder = StreamDecoder(
            tokenizer, continues=True, shown=(reasoning.start, reasoning.end)
        )
        self._parser = AnswerParser(AnswerForm(reasoning, thinks_at_first=begun))
        self._left = budget
        self._end = [
            token
            for part in tokenizer.structure_parts(reasoning.end)
            for token in (
                [part] if isinstance(part, int) else tokenizer.encode(part, add_special=False)
            )
        ]
        self._ending: list[int] = []
        """The tokens of the end mark that are still to come."""

    @property
    def forced(self) -> int | None:
        """The token that must come next; None if it is sampled."""
        if not self._ending and self._left <= 0 and self._parser.thinking and self._decoder.whole:
            self._ending = list(self._end)
        return self._ending[0] if self._ending else None

    def accept(self, token: int) -> None:
        """Add the next token."""
        thought = self._parser.thinking
        self._parser.feed(self._decoder.feed(token))
        if self._ending:
            self._ending.pop(0)
        elif thought and self._parser.thinking:
            self._left -= 1
