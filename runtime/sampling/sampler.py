"""The sampler of one request, and sampling of the next tokens of many requests.

The order of samplers is llama.cpp's: logit_bias, penalties, DRY, top-n-sigma, top-k, typical-p,
top-p, min-p, XTC, temperature. Each works on what those before it left.
"""

from collections.abc import Sequence

import numpy as np

from runtime.sampling.adjustments import Adjustments
from runtime.sampling.logits import UNKNOWN, Logits
from runtime.sampling.parameters import SamplingParameters
from runtime.sampling.repetitions import Repetitions
from runtime.sampling.rows import Row, drawn, template_of


class Sampler:
    """The draws of one request: its parameters and its own generator. Owned by the engine thread.

    A request's draws depend on its seed and on how many it made, never on other requests.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt: Sequence[int] = (),
        ends: frozenset[int] = frozenset(),
    ) -> None:
        """`ends`: tokens that end the request, beside those of its parameters."""
        self._parameters = parameters
        wanted = Adjustments.wanted(parameters)
        self._adjustments = Adjustments(parameters, prompt, ends) if wanted else None
        self._repetitions = None
        if parameters.breaks_repetitions:
            self._repetitions = Repetitions(parameters, prompt)
        self._template: bytes | None = None
        self._generator = None if parameters.greedy else np.random.default_rng(parameters.seed)

    @property
    def takes_likeliest(self) -> bool:
        """Whether each token is that of the largest logit, unchanged."""
        return self._generator is None and not (self._adjustments or self._repetitions)

    def row(self, logits: Logits, row: int) -> int | Row:
        """Return the token sampled from one row of logits, or its candidates: makes one draw.

        Raises FloatingPointError where the logits hold no finite maximum.
        """
        if not logits.finite[row]:
            raise FloatingPointError("the model's logits are not finite")
        if self.takes_likeliest:
            likeliest = logits.likeliest[row]
            if likeliest != UNKNOWN:
                return likeliest
        if self._template is None:
            self._template = template_of(self._parameters, logits.vocabulary_size)
        chances = self._chances()
        return Row(self._template, logits, row, chances, self._adjustments, self._repetitions)

    def accept(self, token: int) -> None:
        """Take in the token that was picked."""
        if self._adjustments is not None:
            self._adjustments.accept(token)
        if self._repetitions is not None:
            self._repetitions.accept(token)

    def sample(self, logits: Logits, row: int) -> int:
        """Pick a token from one row of logits. Ties go to the lowest id.

        Raises FloatingPointError where the logits hold no finite maximum.
        """
        (token,) = sample([(self, logits, row)])
        if isinstance(token, BaseException):
            raise token
        self.accept(token)
        return token

    def _chances(self) -> tuple[float, float]:
        """Of the draw and of XTC, 0 to 1 each."""
        if self._generator is None:
            return 0.0, 0.0
        draw = self._generator.random()
        return draw, self._generator.random() if self._parameters.leaves_out_likely else 0.0


def sample(wanted: Sequence[tuple[Sampler, Logits, int]]) -> list[int | BaseException]:
    """Sample a token for each sampler from a row of logits, or return its error.

    Ties go to the lowest id.
    """
    tokens: list[int | BaseException] = []
    rows: dict[int, Row] = {}
    for index, (sampler, logits, place) in enumerate(wanted):
        try:
            begun = sampler.row(logits, place)
        except BaseException as problem:
            tokens.append(problem)
            continue
        if isinstance(begun, Row):
            rows[index] = begun
        tokens.append(begun if isinstance(begun, int) else 0)
    for index, token in zip(rows, drawn(list(rows.values())), strict=True):
        tokens[index] = token
    return tokens
