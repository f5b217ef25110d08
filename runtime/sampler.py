"""Logits and sampling parameters to one token a row, in NumPy.

The order is temperature, then top-k, then top-p over what is left, as OpenAI's API describes them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidRequest

MAX_TEMPERATURE = 2.0
BLOCK = 128
FIRST_CANDIDATES = 256
"""Tokens among which the mass of top_p is looked for first; all are sorted only if need be."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a request picks its tokens. Immutable.

    temperature: 0 (greedy) to 2. top_k: most likely tokens kept, 0 for all. top_p: probability
    mass kept, 0 for the most likely token alone. seed: fixes the draws; None takes a fresh one.

    Raises InvalidRequest naming the field that is out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= MAX_TEMPERATURE):
            raise InvalidRequest(f"temperature must be between 0.0 and {MAX_TEMPERATURE}")
        if self.top_k < 0:
            raise InvalidRequest("top_k must be at least 1")
        if not (math.isfinite(self.top_p) and 0.0 <= self.top_p <= 1.0):
            raise InvalidRequest("top_p must be between 0.0 and 1.0")
        if self.seed is not None and self.seed < 0:
            raise InvalidRequest("seed must not be negative")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, with no draw."""
        return self.temperature == 0.0 or self.top_k == 1 or self.top_p == 0.0


def _likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids of the `count` largest logits, largest first, lower ids before higher ones."""
    tokens = _at_least_largest(logits, count) if count < logits.size else np.arange(logits.size)
    return tokens[np.argsort(-logits[tokens], kind="stable")][:count]


def _at_least_largest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids of the `count` largest logits and perhaps some more, in rising order.

    The count-th largest of the maxima of blocks is a bound that `count` logits reach; only blocks
    that reach it are looked into, a few thousand values of a large vocabulary.
    """
    blocks = logits.size // BLOCK
    if count > blocks:
        return np.flatnonzero(logits >= np.partition(logits, -count)[-count])
    whole = logits[: blocks * BLOCK].reshape(blocks, BLOCK)
    maxima = whole.max(axis=1)
    bound = np.partition(maxima, -count)[-count]
    reached = np.flatnonzero(maxima >= bound)
    row, column = np.nonzero(whole[reached] >= bound)
    rest = np.flatnonzero(logits[blocks * BLOCK :] >= bound) + blocks * BLOCK
    return np.concatenate([reached[row] * BLOCK + column, rest])


def _cut(
    tokens: NDArray[np.intp], mass: NDArray[np.float64], needed: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The smallest set whose mass reaches `needed`: up to the first token that gets there."""
    kept = int(np.searchsorted(mass, needed, side="left")) + 1
    return tokens[:kept], mass[:kept]


class Sampler:
    """The draws of one request: its parameters and its own generator. Owned by the engine thread.

    A request's draws depend on its seed and on how many it made, never on its company.
    """

    def __init__(self, parameters: SamplingParameters) -> None:
        self._parameters = parameters
        self._generator = None if parameters.greedy else np.random.default_rng(parameters.seed)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Pick a token from one row of logits, float32 [V]. Ties go to the lowest id.

        Raises FloatingPointError where the logits hold no finite maximum.
        """
        most_likely = int(np.argmax(logits))
        if not math.isfinite(logits[most_likely]):
            raise FloatingPointError("the model's logits are not finite")
        if self._generator is None:
            return most_likely
        tokens, mass = self._candidates(logits)
        draw = self._generator.random() * mass[-1]
        return int(tokens[min(int(np.searchsorted(mass, draw, side="right")), len(tokens) - 1)])

    def _candidates(
        self, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The tokens that may be drawn and their cumulative mass.

        They are in order of likelihood, but for a draw from the whole vocabulary.
        """
        top_k, top_p = self._parameters.top_k, self._parameters.top_p
        if 0 < top_k < logits.size:
            tokens = _likeliest(logits, top_k)
            mass = np.cumsum(self._weights(logits[tokens], logits[tokens[0]]), dtype=np.float64)
            return _cut(tokens, mass, top_p * mass[-1])
        weights = self._weights(logits, logits.max())
        if top_p == 1.0:
            return np.arange(logits.size), np.cumsum(weights, dtype=np.float64)
        needed = top_p * weights.sum(dtype=np.float64)
        tokens = _likeliest(logits, FIRST_CANDIDATES)
        mass = np.cumsum(weights[tokens], dtype=np.float64)
        if mass[-1] < needed:
            # Sorting values is far cheaper than sorting ids by them.
            descending = np.sort(weights)[::-1]
            kept = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), needed)) + 1
            tokens = _likeliest(logits, kept)
            mass = np.cumsum(weights[tokens], dtype=np.float64)
        return _cut(tokens, mass, needed)

    def _weights(self, logits: NDArray[np.float32], largest: np.float32) -> NDArray[np.float32]:
        """What each logit counts for, relative to the largest."""
        weights: NDArray[np.float32] = np.exp(
            (logits - largest) / np.float32(self._parameters.temperature)
        )
        return weights
