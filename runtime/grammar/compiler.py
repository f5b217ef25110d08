"""Grammars to matchers for the vocabulary of one model."""

import threading
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest
from runtime.grammar.checking import TOO_LARGE, CompilerProcess
from runtime.grammar.grammar import Grammar
from runtime.grammar.matcher import GrammarFailed, Matcher
from runtime.tokenizer import Tokenizer

if TYPE_CHECKING:  # imported by the first request with a grammar, as elsewhere in this package
    from llguidance import LLTokenizer

MAX_SHOWN = 200
"""Maximum length of an error message about a grammar."""
MAX_LEXER_STEPS, MAX_PARSER_ITEMS = 100_000, 20_000
"""Of the work for one mask: some milliseconds."""

_process = CompilerProcess()


class _Vocabulary:
    """The interface of a tokenizer for llguidance."""

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end
        self.bos_token_id = tokenizer.bos
        self.tokens = [tokenizer.plain_bytes(token) for token in range(tokenizer.vocabulary_size)]

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode("utf-8", "replace"), add_special=False)


class GrammarCompiler:
    """Makes matchers for one tokenizer. Any thread may use it; costly parts are made once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._making = threading.Lock()
        self._table: LLTokenizer | None = None

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of a grammar, its first mask computed.

        Raises InvalidRequest if the grammar is wrong, or takes too much work or time.
        """
        from llguidance import LLMatcher, LLParserLimits

        if not self._tokenizer.end_of_generation:
            raise _refusal(grammar, "the model has no token that ends a text")
        if complaint := _process.complaint(grammar.source):
            raise _refusal(grammar, complaint)
        limits = LLParserLimits(
            step_lexer_fuel=MAX_LEXER_STEPS, step_max_items=MAX_PARSER_ITEMS, verbose_errors=False
        )
        state = LLMatcher(self._shared_table(), grammar.source, log_level=0, limits=limits)
        if state.is_error():
            raise _refusal(grammar, state.get_error())
        matcher = Matcher(state, self._tokenizer.vocabulary_size)
        try:
            first = matcher.masks()
        except GrammarFailed:
            raise _refusal(grammar, TOO_LARGE) from None
        if not first.any():
            raise _refusal(grammar, "no text fits it")
        return matcher

    def _shared_table(self) -> "LLTokenizer":
        """Return the bytes of every token, for llguidance."""
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._making:
            if self._table is None:
                ends = sorted(self._tokenizer.end_of_generation)
                self._table = LLTokenizer(
                    TokenizerWrapper(_Vocabulary(self._tokenizer, ends[0])),
                    n_vocab=self._tokenizer.vocabulary_size,
                    eos_token=ends,
                    slices=LLTokenizer.json_slices(),
                )
            return self._table


def _refusal(grammar: Grammar, complaint: str) -> InvalidRequest:
    told = " ".join(complaint.split())[:MAX_SHOWN]
    return InvalidRequest(f"{grammar.field} cannot be honoured: {told}", field=grammar.field)
