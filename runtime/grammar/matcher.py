"""The state of a request's answer in its grammar, and the tokens that may follow."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_SECONDS = 1.0
"""Processor time of one mask; they take a thousandth of it, and others wait for it."""
WORD = 32
"""Tokens of a word of a mask as llguidance writes it."""


class GrammarFailed(Exception):
    """A grammar that cannot go on; the request that has it fails."""


class Matcher:
    """The state of one request's grammar. Owned by one thread at a time."""

    def __init__(self, state: "LLMatcher", vocabulary_size: int) -> None:
        """Own llguidance's matcher for a vocabulary of this many tokens."""
        self._state = state
        self._vocabulary_size = vocabulary_size

    @property
    def ended(self) -> bool:
        """Whether the text is whole and nothing may follow."""
        return self._state.is_stopped()

    def copy(self) -> "Matcher":
        """Another with the same state."""
        return Matcher(self._state.deep_copy(), self._vocabulary_size)

    def advance(self, token: int) -> None:
        """Go on by a token. Raises GrammarFailed where the grammar does not allow it."""
        if not self._state.consume_token(token):
            raise GrammarFailed("a token does not follow the grammar")

    def allowed_of(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, the grammar allows."""
        return self._state.validate_tokens(list(tokens))

    def forced(self) -> tuple[int, ...]:
        """The tokens of the text that must follow, as the tokenizer cuts it; empty where none must.

        A model may cut it otherwise.
        """
        return tuple(self._state.compute_ff_tokens())

    def masks(self, guesses: Sequence[int] = ()) -> NDArray[np.bool_]:
        """Return which tokens may follow, now and after each guess [1 + guesses, vocabulary].

        The state stays what it was. Raises GrammarFailed where the grammar takes too much work.
        """
        words = -(-self._vocabulary_size // WORD)
        bits = np.zeros((1 + len(guesses), words), np.uint32)
        began = time.thread_time()
        held = 0
        for row in range(len(bits)):
            self._state.unsafe_compute_mask_ptr(bits[row].ctypes.data, words * bits.itemsize)
            self._expect_sound()
            if row == len(guesses) or not self._state.consume_token(guesses[row]):
                break
            held += 1
            if self._state.is_stopped():
                break
        if held and not self._state.rollback(held):
            self._expect_sound()
        if time.thread_time() - began > MAX_SECONDS * len(bits):
            raise GrammarFailed("a mask takes too long")
        every = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        return every[:, : self._vocabulary_size].view(np.bool_)

    def _expect_sound(self) -> None:
        if self._state.is_error():
            raise GrammarFailed("the grammar takes too much work at this place of the text")
