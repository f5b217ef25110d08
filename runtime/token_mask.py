"""The tokens that may follow, a bit each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 64
"""Tokens of a word: those of one block of logits."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMask:
    """Which tokens of a vocabulary are allowed. Immutable."""

    words: NDArray[np.uint64]
    """[ceil(V / BITS)], contiguous: bit t % BITS of word t // BITS is 1 if token t is allowed."""

    @classmethod
    def of(cls, allowed: NDArray[np.bool_]) -> "TokenMask":
        """Return the mask of an array [V]."""
        padded = np.zeros(-(-allowed.size // BITS) * BITS, np.bool_)
        padded[: allowed.size] = allowed
        return cls(np.packbits(padded, bitorder="little").view(np.uint64))

    def __contains__(self, token: int) -> bool:
        """Return whether a token is allowed."""
        word, bit = divmod(token, BITS)
        return word < self.words.size and bool(int(self.words[word]) >> bit & 1)

    def any_of_first(self, count: int) -> bool:
        """Return whether any of the first `count` tokens is allowed."""
        whole, bits = divmod(count, BITS)
        if self.words[:whole].any():
            return True
        return whole < self.words.size and int(self.words[whole]) & (1 << bits) - 1 != 0

    def array(self, count: int) -> NDArray[np.bool_]:
        """Return whether each of the first `count` tokens is allowed [count]."""
        found = np.zeros(count, np.bool_)
        bits = np.unpackbits(self.words.view(np.uint8), bitorder="little")[:count]
        found[: bits.size] = bits
        return found
