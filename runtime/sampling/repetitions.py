"""DRY: penalties of the tokens that would go on with a repetition of what was said.

The rule is that of llama.cpp's sampler of this name: where the last tokens stand further up as
well, what came behind them there is penalized the more, the longer they are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.breakers import SequenceBreakers
from runtime.sampling.parameters import SamplingParameters

LOG_LARGEST = np.float32(88.7228391)
"""Of float32's largest number, as llama.cpp has it."""
LEAST_BASE = np.float32(1.000001)
"""Above it, exponents are limited."""
FIRST_CAPACITY = 1024


class Repetitions:
    """What one request said, and how far its end repeats it. Owned by the engine thread."""

    def __init__(self, parameters: SamplingParameters, prompt: Sequence[int]) -> None:
        self._allowed = parameters.dry_allowed_length
        last = parameters.dry_penalty_last_n
        self._window = last
        self._multiplier = np.float32(parameters.dry_multiplier)
        self._base = np.float32(parameters.dry_base)
        self._single = parameters.breakers.single
        self._breaks = _Breaks(parameters.breakers)
        said = list(prompt)[-last:] if last > 0 else list(prompt)
        self._count = len(said)
        self._said = np.zeros(max(FIRST_CAPACITY, 2 * len(said)), np.int32)
        self._said[: len(said)] = said
        self._lengths = np.zeros(len(self._said), np.int32)
        """Entry d - 1: how many tokens up to the one d before the last are those at the end, too.

        A further token leaves each where it is, one longer or gone."""
        self._lengths[: max(0, len(said) - 1)] = _lengths(said)[1:]
        for token in said:
            self._breaks.accept(token)

    def accept(self, token: int) -> None:
        """Take in the token that was picked."""
        count = self._count
        if count == len(self._said):
            self._said = np.concatenate([self._said, np.zeros_like(self._said)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        before = self._said[self._first : count]
        lengths = self._lengths[: len(before)]
        lengths += 1
        lengths *= before[::-1] == token
        self._said[count] = token
        self._count += 1
        self._breaks.accept(token)

    def penalties(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Tokens and what is to be taken from their logits."""
        count = self._count
        size = count - self._first
        limit = min(size, self._breaks.since)
        if size <= self._allowed or limit < self._allowed:
            return _NONE
        (places,) = (self._lengths[: size - 1] >= self._allowed).nonzero()
        if not places.size:
            return _NONE
        # What reaches over the window's beginning or a breaker is not counted.
        lengths = np.minimum(np.minimum(self._lengths[places], limit), size - 1 - places)
        is_long = lengths >= self._allowed
        tokens, lengths = self._said[count - 1 - places[is_long]], lengths[is_long]
        order = np.argsort(lengths, kind="stable")
        longest = dict(zip(tokens[order].tolist(), lengths[order].tolist(), strict=True))
        for breaker in longest.keys() & self._single:
            del longest[breaker]
        exponents = np.fromiter(longest.values(), np.int64, len(longest)) - self._allowed
        return np.fromiter(longest.keys(), np.int64, len(longest)), self._amounts(exponents)

    @property
    def _first(self) -> int:
        """Where the window begins."""
        return max(0, self._count - self._window) if self._window >= 0 else 0

    def _amounts(self, exponents: NDArray[np.int64]) -> NDArray[np.float32]:
        """The penalties, float32 as llama.cpp computes them."""
        if self._base > LEAST_BASE:
            largest = int(LOG_LARGEST / np.log(self._base))
            exponents = np.minimum(exponents, largest)
        with np.errstate(over="ignore"):
            powers = np.float64(self._base) ** exponents
            amounts: NDArray[np.float32] = (np.float64(self._multiplier) * powers).astype(
                np.float32
            )
        return amounts


_NONE = (np.empty(0, np.int64), np.empty(0, np.float32))


class _Breaks:
    """How many tokens there are behind the last breaker. Owned by the engine thread."""

    def __init__(self, breakers: SequenceBreakers) -> None:
        self._breakers = breakers
        self._count = 0
        self._head, self._end = -1, -1
        """Where the last breaker's first and last token stand."""
        self._begun: list[tuple[int, tuple[int, ...]]] = []
        """Where breakers may have begun, and the tokens that they still lack."""

    @property
    def since(self) -> int:
        """Tokens behind the last breaker; all where there is none."""
        return self._count - 1 - self._end

    def accept(self, token: int) -> None:
        """Take in the next token."""
        place = self._count
        self._count += 1
        going_on = [(head, lacks[1:]) for head, lacks in self._begun if lacks[0] == token]
        going_on += [(place, lacks) for lacks in self._breakers.longer.get(token, ())]
        if token in self._breakers.single:
            going_on.append((place, ()))
        self._begun = [(head, lacks) for head, lacks in going_on if lacks]
        ended = [head for head, lacks in going_on if not lacks]
        # The one that begins last counts, and of those the longest.
        if ended and max(ended) >= self._head:
            self._head, self._end = max(ended), place


def _lengths(said: Sequence[int]) -> list[int]:
    """For each distance from the end, how many tokens up to there are those at the end (Z)."""
    count = len(said)
    backward = said[::-1]
    lengths = [0] * count
    left = right = 0
    for place in range(1, count):
        length = 0
        if place < right:
            length = min(right - place, lengths[place - left])
        while place + length < count and backward[length] == backward[place + length]:
            length += 1
        lengths[place] = length
        if place + length > right:
            left, right = place, place + length
    return lengths
