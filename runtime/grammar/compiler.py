"""Grammars to matchers for the vocabulary of one model."""

import threading
from functools import partial
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest
from runtime.grammar.checking import TOO_LARGE, CompilerProcess
from runtime.grammar.grammar import Grammar
from runtime.grammar.matcher import GrammarFailed, Matcher
from runtime.tokenizer import Tokenizer

if TYPE_CHECKING:  # imported by the first request with a grammar, as elsewhere in this package
    from llguidance import LLMatcher, LLTokenizer

MAX_SHOWN = 200
"""Maximum length of an error message about a grammar."""
MAX_LEXER_STEPS, MAX_PARSER_ITEMS = 100_000, 20_000
"""Of the work for one mask: some milliseconds."""
MAX_KEPT = 16
"""Compiled grammars that are kept for further requests."""
MAX_SHARED_STATES = 5_000
"""States of a shared lexer, of about 4 kB each; few grammars need a thousand."""
MAX_STATES = 250_000
"""States of a lexer of one request."""
SLICES = [
    r"[\x20\x0A\x0D\x09]+",
    *(rf'[^"\\\x00-\x1F\x7F]{{1,{length}}}' for length in (3, 6, 10, 15, 30)),
    r'[^"\\\x00-\x1F\x7F]+',
]
"""Tokens that are looked at together: white space, and parts of JSON's strings by their length, as
strings may be limited to some."""

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
        self._kept: dict[str, Matcher] = {}
        """By their sources, the last used last; changed while `_making` is held."""

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning of a grammar, its first mask computed.

        Raises InvalidRequest if the grammar is wrong, or takes too much work or time.
        """
        with self._making:
            kept = self._kept.pop(grammar.source, None)
            if kept is not None:
                self._kept[grammar.source] = kept
                return kept.copy()
        made = self._made(grammar)
        if not made.is_shared:
            return made
        with self._making:
            self._kept[grammar.source] = made
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return made.copy()

    def _made(self, grammar: Grammar) -> Matcher:
        if not self._tokenizer.end_of_generation:
            raise _refusal(grammar, "the model has no token that ends a text")
        if complaint := _process.complaint(grammar.source):
            raise _refusal(grammar, complaint)
        state = self._state(grammar.source, MAX_SHARED_STATES)
        if state.is_error():
            raise _refusal(grammar, state.get_error())
        matcher = Matcher(
            state, self._tokenizer.vocabulary_size, partial(self._alone, grammar.source)
        )
        try:
            (first,) = matcher.masks()
        except GrammarFailed:
            raise _refusal(grammar, TOO_LARGE) from None
        if not first.any_of_first(self._tokenizer.vocabulary_size):
            raise _refusal(grammar, "no text fits it")
        return matcher

    def _alone(self, source: str) -> "LLMatcher":
        """Return a state with a lexer of its own, in place of a shared one that is used up."""
        with self._making:
            self._kept.pop(source, None)
        return self._state(source, MAX_STATES)

    def _state(self, source: str, most_states: int) -> "LLMatcher":
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(
            step_lexer_fuel=MAX_LEXER_STEPS,
            step_max_items=MAX_PARSER_ITEMS,
            max_lexer_states=most_states,
            verbose_errors=False,
        )
        return LLMatcher(self._shared_table(), source, log_level=0, limits=limits)

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
                    slices=SLICES,
                )
            return self._table


def _refusal(grammar: Grammar, complaint: str) -> InvalidRequest:
    told = " ".join(complaint.split())[:MAX_SHOWN]
    return InvalidRequest(f"{grammar.field} cannot be honoured: {told}", field=grammar.field)
