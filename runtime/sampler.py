"""Logits and sampling parameters to one token a row, in NumPy.

The order is temperature, then top-k, then top-p over what is left, as OpenAI's API describes them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidRequest

MAX_TEMPERATURE = 2.0


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
        """The tokens that may be drawn, likeliest first, and their cumulative mass."""
        top_k, top_p = self._parameters.top_k, self._parameters.top_p
        if 0 < top_k < logits.size:
            smallest_kept = np.partition(logits, -top_k)[-top_k]
            tokens = np.flatnonzero(logits >= smallest_kept)
        else:
            top_k, tokens = logits.size, np.arange(logits.size)
        tokens = tokens[np.argsort(-logits[tokens], kind="stable")][:top_k]
        kept = logits[tokens].astype(np.float64)
        mass = np.cumsum(np.exp((kept - kept[0]) / self._parameters.temperature))
        if top_p < 1.0:
            # The smallest set whose mass reaches top_p: up to the first token that gets there.
            count = int(np.searchsorted(mass, top_p * mass[-1], side="left")) + 1
            tokens, mass = tokens[:count], mass[:count]
        return tokens, mass
