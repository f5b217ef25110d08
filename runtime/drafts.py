"""Drafts of a sequence's next tokens from its own text (prompt lookup), verified by the step.

What followed the last few tokens when they occurred before is likely to follow again (Saxena,
"Prompt Lookup Decoding", 2023). A draft costs rows of one step and never changes a token: the
model's own choice decides at each position.
"""

from collections.abc import Sequence

MATCHED_TOKENS = 3
"""Number of tokens that must have occurred before."""
FIRST_LENGTH = 3
MAX_DRAFT = 7
MAX_PAUSE = 64
DRAFTED_STEP = 8
"""Most tokens of a step that carries guesses: with more, a row more is a row's work more."""
FORCED_STEP = 32
"""The same where the guesses are a grammar's: what must come is computed sooner or later anyhow."""


class PromptLookup:
    """The n-grams of one sequence and the success of its drafts. Owned by one thread.

    An accepted draft makes the next one longer, a rejected one makes it shorter; after a draft of
    which no token was accepted there is none for a while, longer each time.
    """

    def __init__(self) -> None:
        self._next_of: dict[tuple[int, ...], int] = {}
        self._indexed = MATCHED_TOKENS
        self._length = FIRST_LENGTH
        self._failures = 0
        self._pause = 0

    def propose(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """Return at most `most` tokens that may follow `tokens`; empty if there is no draft."""
        for end in range(self._indexed, len(tokens)):
            self._next_of[tuple(tokens[end - MATCHED_TOKENS : end])] = end
        self._indexed = max(self._indexed, len(tokens))
        if self._pause > 0:
            self._pause -= 1
            return ()
        found = self._next_of.get(tuple(tokens[-MATCHED_TOKENS:]))
        if found is None:
            return ()
        return tuple(tokens[found : found + min(self._length, most)])

    def settle(self, guessed: int, held: int) -> None:
        """Record that the first `held` of `guessed` tokens were accepted."""
        if held == guessed:
            self._length = min(2 * self._length + 1, MAX_DRAFT)
        else:
            self._length = max(1, held)
        if held > 0:
            self._failures = 0
        else:
            self._failures += 1
            self._pause = min(2**self._failures, MAX_PAUSE)
