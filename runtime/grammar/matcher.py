"""The state of a request's answer in its grammar, and the tokens that may follow."""

import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from runtime.token_mask import BITS, TokenMask

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_SECONDS = 1.0
"""Processor time of one mask; they take a thousandth of it, and others wait for it."""
WRITTEN_BITS = 32
"""Tokens of a word of a mask as llguidance writes it."""


class GrammarFailed(Exception):
    """A grammar that cannot go on; the request that has it fails."""


class Matcher:
    """The state of one request's grammar. Owned by one thread at a time.

    Copies share their lexer, behind a lock of llguidance: what it has learned of the vocabulary for
    one text need not be computed for the next. Its size is limited, so a matcher that it stops
    goes on with a lexer of its own.
    """

    def __init__(
        self, state: "LLMatcher", vocabulary_size: int, alone: "Callable[[], LLMatcher]"
    ) -> None:
        """Own llguidance's matcher for a vocabulary of this many tokens.

        alone: makes another, at the beginning of the same grammar, that shares no lexer.
        """
        self._state = state
        self._vocabulary_size = vocabulary_size
        self._alone: Callable[[], LLMatcher] | None = alone
        self._tokens: list[int] = []
        """All tokens so far, as long as the lexer is shared."""
        self._taken: int | None = None
        """A token that the state went on by already; see `takes`."""

    @property
    def is_shared(self) -> bool:
        """Whether copies share the lexer."""
        return self._alone is not None

    @property
    def ended(self) -> bool:
        """Whether the text is whole and nothing may follow."""
        return self._state.is_stopped()

    def copy(self) -> "Matcher":
        """Another at the beginning of the same grammar. Raises ValueError after the beginning."""
        if self._alone is None or self._tokens:
            raise ValueError("only a matcher at its beginning, with a shared lexer, can be copied")
        return Matcher(self._state.deep_copy(), self._vocabulary_size, self._alone)

    def takes(self, token: int) -> bool:
        """Go on by a token if the grammar allows it; the next call has to be its `advance`.

        One look at the grammar in the place of two: whether a token is allowed, and what follows.
        """
        # llguidance goes no further after a token that it does not know.
        if token >= self._vocabulary_size or not self._state.try_consume_tokens([token]):
            return False
        self._taken = token
        return True

    def advance(self, token: int) -> None:
        """Go on by a token. Raises GrammarFailed where the grammar does not allow it."""
        taken, self._taken = self._taken, None
        if taken is not None and taken != token and not self._state.rollback(1):
            raise GrammarFailed("the grammar cannot go back by a token")
        if taken != token and not self._state.consume_token(token):
            if not self._go_alone() or not self._state.consume_token(token):
                raise GrammarFailed("a token does not follow the grammar")
        elif self._alone is not None:
            self._tokens.append(token)

    def allowed_of(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, the grammar allows."""
        # llguidance goes no further after a token that it does not know.
        known = takewhile(self._vocabulary_size.__gt__, tokens)
        return self._state.validate_tokens(list(known))

    def forced(self) -> tuple[int, ...]:
        """The tokens of the text that must follow, as the tokenizer cuts it; empty where none must.

        A model may cut it otherwise.
        """
        return tuple(self._state.compute_ff_tokens())

    def masks(self, guesses: Sequence[int] = ()) -> list[TokenMask]:
        """Return which tokens may follow, now and after each guess.

        The state stays what it was. Raises GrammarFailed where the grammar takes too much work.
        """
        words = -(-self._vocabulary_size // BITS)
        bits = np.zeros((1 + len(guesses), words), np.uint64)
        address, row_bytes = bits.__array_interface__["data"][0], words * bits.itemsize
        written = -(-self._vocabulary_size // WRITTEN_BITS) * WRITTEN_BITS // 8
        began = time.thread_time()
        held = 0
        for row in range(len(bits)):
            self._state.unsafe_compute_mask_ptr(address + row * row_bytes, written)
            if self._state.is_error():
                return self._masks_alone(guesses)
            if row == len(guesses) or not self._state.consume_token(guesses[row]):
                break
            held += 1
            if self._state.is_stopped():
                break
        if held and not self._state.rollback(held):
            return self._masks_alone(guesses)
        if time.thread_time() - began > MAX_SECONDS * len(bits):
            raise GrammarFailed("a mask takes too long")
        return [*map(TokenMask, bits)]

    def _masks_alone(self, guesses: Sequence[int]) -> list[TokenMask]:
        """Return what `masks` does. Raises GrammarFailed if the lexer is this matcher's own."""
        if not self._go_alone():
            raise GrammarFailed("the grammar takes too much work at this place of the text")
        return self.masks(guesses)

    def _go_alone(self) -> bool:
        """Go on, at the same place, with a lexer of its own; return False if it has one."""
        if self._alone is None:
            return False
        self._state, self._alone = self._alone(), None
        if self._tokens and not self._state.consume_tokens(self._tokens):
            raise GrammarFailed("the grammar takes too much work up to this place of the text")
        self._tokens.clear()
        return True
