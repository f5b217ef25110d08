"""Changes of single logits before sampling: bans, biases and penalties.

The penalties are those of llama.cpp's samplers, over prompt and answer.
"""

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from runtime.sampling.parameters import SamplingParameters

BANNED = float("-inf")


class AmountsMemory(NamedTuple):
    """Where distinct tokens are, and a number for each."""

    tokens: int = 0
    """int64 [size]"""
    values: int = 0
    """float32 [size]"""
    size: int = 0


class Adjustments:
    """Changes of one request's logits, and the tokens they depend on. Owned by the engine thread.

    Bans (of end tokens, before min_tokens are generated) and biases are applied first, then
    penalties of the tokens in the window.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt: Sequence[int],
        ends: frozenset[int],
    ) -> None:
        """`ends`: tokens that end the request, beside those of its parameters."""
        self._parameters = parameters
        biases = dict(parameters.logit_bias)
        self._biases = _Amounts(biases)
        banned = dict.fromkeys(ends | parameters.stop_token_ids, BANNED)
        self._bans_and_biases = _Amounts({**biases, **banned})
        self._counts = _Counts(prompt, parameters.repeat_last_n if parameters.penalizes else 0)
        self._generated = 0

    @staticmethod
    def wanted(parameters: SamplingParameters) -> bool:
        """Return whether the parameters change any logit."""
        return bool(parameters.logit_bias or parameters.min_tokens or parameters.penalizes)

    def memory(self) -> tuple[AmountsMemory, AmountsMemory]:
        """Return what is added to logits, and token counts of the window.

        Valid until the next token is accepted.
        """
        is_short = self._generated < self._parameters.min_tokens
        added = self._bans_and_biases if is_short else self._biases
        return added.memory, self._counts.memory()

    def accept(self, token: int) -> None:
        """Add the sampled token."""
        self._generated += 1
        self._counts.accept(token)


class _Counts:
    """Counts of each token among the last `size`, -1 for all. Owned by the engine thread."""

    def __init__(self, tokens: Sequence[int], size: int) -> None:
        self._window = deque(tokens, None if size < 0 else size)
        counts = Counter(self._window)
        self._places = {token: place for place, token in enumerate(counts)}
        """Index of each token's count."""
        self._tokens = array("q", counts)
        self._counts = array("f", counts.values())

    def memory(self) -> AmountsMemory:
        """Return the tokens in the window and their counts."""
        tokens, size = self._tokens.buffer_info()
        return AmountsMemory(tokens, self._counts.buffer_info()[0], size)

    def accept(self, token: int) -> None:
        """Add the next token."""
        if self._window.maxlen == 0:
            return
        if len(self._window) == self._window.maxlen:
            self._forget(self._window[0])
        self._window.append(token)
        place = self._places.get(token)
        if place is None:
            self._places[token] = len(self._places)
            self._tokens.append(token)
            self._counts.append(1)
        else:
            self._counts[place] += 1

    def _forget(self, token: int) -> None:
        """Decrease a token's count; at 0 the last entry is moved to its index."""
        place = self._places[token]
        self._counts[place] -= 1
        if self._counts[place]:
            return
        del self._places[token]
        moved, count = self._tokens.pop(), self._counts.pop()
        if moved != token:
            self._tokens[place], self._counts[place] = moved, count
            self._places[moved] = place


class _Amounts:
    """Tokens and a number for each. Immutable."""

    def __init__(self, values: dict[int, float]) -> None:
        self._tokens, self._values = array("q", values), array("f", values.values())
        tokens, size = self._tokens.buffer_info()
        self.memory = AmountsMemory(tokens, self._values.buffer_info()[0], size)
