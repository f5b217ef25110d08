"""Guesses at a sequence's next tokens from its own text, for the step to verify.

Prompt lookup: where the last few tokens stood before, what followed them then is likely to follow
again (Saxena, "Prompt Lookup Decoding", 2023). A guess costs rows of one step and never changes a
token: the model's own choice decides at each place.
"""

from collections.abc import Sequence

MATCHED_TOKENS = 3
"""Tokens that must have stood together before."""
FIRST_LENGTH = 3
MAX_DRAFT = 7
MAX_PAUSE = 64


class PromptLookup:
    """The n-grams of one sequence, and how far guesses have proved right. Owned by one thread.

    A guess that holds makes the next one longer, one that fails makes it shorter; after a guess of
    which nothing held, none is made for a while, and for longer each time.
    """

    def __init__(self) -> None:
        self._next_of: dict[tuple[int, ...], int] = {}
        self._indexed = MATCHED_TOKENS
        self._length = FIRST_LENGTH
        self._failures = 0
        self._pause = 0

    def propose(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may follow `tokens`; empty where nothing is to be guessed."""
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
        """Learn that the first `held` of `guessed` tokens were the model's own."""
        if held == guessed:
            self._length = min(2 * self._length + 1, MAX_DRAFT)
        else:
            self._length = max(1, held)
        if held > 0:
            self._failures = 0
        else:
            self._failures += 1
            self._pause = min(2**self._failures, MAX_PAUSE)
