"""DRY: penalties of the tokens that would go on with a repetition of what was said.

The rule is that of llama.cpp's sampler of this name: where the last tokens stand further up as
well, what came behind them there is penalized the more, the longer they are. It is searched for in
the native library (runtime/ops/native/repetitions.cc).
"""

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from runtime.sampling.breakers import SequenceBreakers
from runtime.sampling.parameters import SamplingParameters

LOG_LARGEST = np.float32(88.7228391)
"""Of float32's largest number, as llama.cpp has it."""
LEAST_BASE = np.float32(1.000001)
"""Above it, exponents are limited."""
NO_LIMIT = 2**31 - 1
RULES = struct.Struct("=2q2d2q")
"""RepetitionRules in runtime/ops/native/repetitions.h."""


class SaidMemory(NamedTuple):
    """Where the tokens are among which repetitions are searched for."""

    tokens: int = 0
    """int32 [size], valid until the next token is accepted."""
    size: int = 0
    limit: int = 0
    """How long a repetition may count at most."""


class Repetitions:
    """What one request said, as far as repetitions count. Owned by the engine thread."""

    def __init__(self, parameters: SamplingParameters, prompt: Sequence[int]) -> None:
        last = parameters.dry_penalty_last_n
        self._window = last
        self._breaks = _Breaks(parameters.breakers)
        self._said = array("i", list(prompt)[-last:] if last > 0 else prompt)
        for token in self._said:
            self._breaks.accept(token)

    def accept(self, token: int) -> None:
        """Take in the token that was picked."""
        self._said.append(token)
        self._breaks.accept(token)

    def memory(self) -> SaidMemory:
        """Return the tokens of the window; a repetition does not reach over a breaker."""
        address, count = self._said.buffer_info()
        first = max(0, count - self._window) if self._window >= 0 else 0
        return SaidMemory(address + first * self._said.itemsize, count - first, self._breaks.since)


def rules_of(parameters: SamplingParameters) -> bytes:
    """Return the native rules of a request; its breakers must live as long."""
    base, never = np.float32(parameters.dry_base), parameters.breakers.ascending
    largest = int(LOG_LARGEST / np.log(base)) if base > LEAST_BASE else NO_LIMIT
    return RULES.pack(
        *(parameters.dry_allowed_length, largest, np.float32(parameters.dry_multiplier), base),
        *(never.ctypes.data, never.size),
    )


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
        breakers = self._breakers
        if not (self._begun or token in breakers.single or token in breakers.longer):
            return
        going_on = [(head, lacks[1:]) for head, lacks in self._begun if lacks[0] == token]
        going_on += [(place, lacks) for lacks in breakers.longer.get(token, ())]
        if token in breakers.single:
            going_on.append((place, ()))
        self._begun = [(head, lacks) for head, lacks in going_on if lacks]
        ended = [head for head, lacks in going_on if not lacks]
        # The one that begins last counts, and of those the longest.
        if ended and max(ended) >= self._head:
            self._head, self._end = max(ended), place
