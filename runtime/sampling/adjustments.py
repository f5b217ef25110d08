"""What changes single logits of a row before tokens are left out: bans, biases, penalties.

The penalties are those of llama.cpp's sampler of this name, over prompt and answer alike.
"""

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.parameters import SamplingParameters

BANNED = np.float32(-np.inf)


class Adjustments:
    """Changes of one request's logits, and the tokens they depend on. Owned by the engine thread.

    Bans come first (what ends a request, before its least number of tokens), then biases, then
    penalties of the tokens in the window.
    """

    def __init__(
        self, parameters: SamplingParameters, prompt: Sequence[int], ends: frozenset[int]
    ) -> None:
        """`ends`: tokens that end the request, beside those of its parameters."""
        self._parameters = parameters
        self._banned = sorted(ends | parameters.stop_token_ids)
        self._biased = np.array([token for token, _ in parameters.logit_bias], np.intp)
        self._biases = np.array([bias for _, bias in parameters.logit_bias], np.float32)
        size = parameters.repeat_last_n
        self._most = None if size < 0 else size
        """Tokens of the window; None for all."""
        self._window = deque(prompt, self._most)
        self._counts = Counter(self._window)
        self._generated = 0

    @staticmethod
    def wanted(parameters: SamplingParameters) -> bool:
        """Whether the parameters change any logit."""
        return bool(parameters.logit_bias or parameters.min_tokens or parameters.penalizes)

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Change a row of logits [V] in place."""
        if self._generated < self._parameters.min_tokens:
            logits[self._banned] = BANNED
        if self._biased.size:
            logits[self._biased] += self._biases
        if self._counts and self._parameters.penalizes:
            tokens = np.fromiter(self._counts.keys(), np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[tokens] = penalized(logits[tokens], counts, self._parameters)

    def accept(self, token: int) -> None:
        """Take in the token that was picked."""
        self._generated += 1
        if not self._parameters.penalizes or self._most == 0:
            return
        if len(self._window) == self._most:
            oldest = self._window[0]
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._window.append(token)
        self._counts[token] += 1


def penalized(
    logits: NDArray[np.float32], counts: NDArray[np.float32], parameters: SamplingParameters
) -> NDArray[np.float32]:
    """Logits of tokens that stand so often (once at least) in the window."""
    factor = np.float32(parameters.repetition_penalty)
    scaled = np.where(logits <= 0, logits * factor, logits / factor)
    less: NDArray[np.float32] = (
        scaled
        - counts * np.float32(parameters.frequency_penalty)
        - np.float32(parameters.presence_penalty)
    )
    return less
