"""Sequence breakers as tokens: texts at which DRY's repetitions end."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.tokenizer import Tokenizer

MAX_TAIL = 20
"""Tokens that complete a breaker, as in llama.cpp; further ones are not looked at."""
KEPT = 32
"""Lists of breakers whose tokens are kept."""


@dataclass(frozen=True, slots=True)
class SequenceBreakers:
    """The tokens beyond which no repetition reaches. Immutable."""

    single: frozenset[int] = frozenset()
    """Tokens whose text contains a breaker."""
    longer: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Tokens whose text ends with the beginning of one, and the tokens that complete it."""
    ascending: NDArray[np.int32] = field(init=False, repr=False, compare=False)
    """Those of `single`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ascending", np.array(sorted(self.single), np.int32))


NO_BREAKERS = SequenceBreakers()


class BreakerTable:
    """Finds the tokens of breakers in one vocabulary. Any thread may use it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.of = lru_cache(KEPT)(self._of)
        """Return the tokens of a tuple of texts."""

    def _of(self, texts: tuple[str, ...]) -> SequenceBreakers:
        single: set[int] = set()
        longer: dict[int, set[tuple[int, ...]]] = defaultdict(set)
        for text in filter(None, (text.encode() for text in texts)):
            single.update(token for token, piece in enumerate(self._pieces) if text in piece)
            for length in range(1, len(text)):
                begun, rest = text[:length], text[length:].decode("utf-8", "replace")
                heads = [
                    token
                    for token in self._ending_with[begun[-1]]
                    if self._pieces[token].endswith(begun) and text not in self._pieces[token]
                ]
                if heads:
                    tail = tuple(self._tokenizer.encode(rest, add_special=False)[:MAX_TAIL])
                    for token in heads:
                        longer[token].add(tail)
        return SequenceBreakers(
            frozenset(single), {head: tuple(sorted(tails)) for head, tails in longer.items()}
        )

    @cached_property
    def _pieces(self) -> list[bytes]:
        """The text of every token."""
        return list(map(self._tokenizer.token_piece, range(self._tokenizer.vocabulary_size)))

    @cached_property
    def _ending_with(self) -> Mapping[int, list[int]]:
        """The tokens whose text ends with a byte."""
        found: dict[int, list[int]] = defaultdict(list)
        for token, piece in enumerate(self._pieces):
            if piece:
                found[piece[-1]].append(token)
        return found
