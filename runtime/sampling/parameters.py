"""How a request picks its tokens: each field's type and range once, for every route and command."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtime.errors import InvalidRequest

MIN_TEMPERATURE = float(np.finfo(np.float32).tiny)
"""Float32's smallest normal number. Logits are divided in float32, where less may be zero."""
MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 40
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a field may have, ends included. Immutable."""

    least: float
    most: float
    whole: bool = False

    def checked(self, name: str, value: float) -> float:
        """The value; a whole number as an int, so 10.0 is 10. Raises InvalidRequest."""
        if self.whole:
            if (isinstance(value, float) and not math.isfinite(value)) or value != int(value):
                raise InvalidRequest(
                    f"{name} must be a whole number, not {_shown(value)}", field=name
                )
            if value < self.least:
                raise InvalidRequest(
                    f"{name} must be at least {self.least}, not {_shown(value)}", field=name
                )
            if value > self.most:
                raise InvalidRequest(
                    f"{name} must be at most {self.most}, not {_shown(value)}", field=name
                )
            return int(value)
        if not self.least <= value <= self.most:
            raise InvalidRequest(
                f"{name} must be between {self.least} and {self.most}, not {_shown(value)}",
                field=name,
            )
        return float(value)


RANGES: Mapping[str, Range] = {
    "temperature": Range(0.0, 2.0),
    "top_k": Range(0, MAX_INTEGER, whole=True),
    "top_p": Range(0.0, 1.0),
    "min_p": Range(0.0, 1.0),
    "repetition_penalty": Range(0.01, 100.0),
    "presence_penalty": Range(-2.0, 2.0),
    "frequency_penalty": Range(-2.0, 2.0),
    "repeat_last_n": Range(-1, 2**31 - 1, whole=True),
    "min_tokens": Range(0, 2**31 - 1, whole=True),
    "seed": Range(0, 2**64 - 1, whole=True),
}
"""Each number of SamplingParameters."""
COUNTS: Mapping[str, Range] = {
    "n": Range(1, 128, whole=True),
    "best_of": Range(1, 128, whole=True),
    "logprobs": Range(0, 20, whole=True),
    "top_logprobs": Range(0, 20, whole=True),
    "prompt_logprobs": Range(0, 20, whole=True),
}
"""How many of what a request asks for, beside its parameters. Source: OpenAI's API reference, and
vLLM's limit of 20 where OpenAI's is 5 (`logprobs` of completions)."""
BIASES = Range(-100.0, 100.0)
"""What may be added to a logit, as in OpenAI's API."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a request picks its tokens. Immutable.

    temperature: 0 to 2, greedy below MIN_TEMPERATURE. top_k: most likely tokens kept, 0 for all.
    top_p: probability mass kept, 0 for the most likely token alone. seed: fixes the draws; None
    takes a fresh one.
    min_p: tokens less likely than this share of the likeliest are left out, 0 for none.
    repetition_penalty divides positive logits of tokens in the window and multiplies others;
    presence_penalty is taken from them once, frequency_penalty as often as they stand there. The
    window are the last repeat_last_n tokens of prompt and answer, -1 for all. logit_bias: tokens
    and what is added to their logits. stop_token_ids end the text. Before min_tokens none that
    ends it is picked.

    Raises InvalidRequest naming the field that is out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    seed: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    min_tokens: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_token_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            if (value := getattr(self, name)) is not None:
                allowed.checked(name, value)
        for _, bias in self.logit_bias:
            BIASES.checked("logit_bias", bias)

    @property
    def penalizes(self) -> bool:
        """Whether tokens are penalized for having been said."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, with no draw."""
        return self.temperature < MIN_TEMPERATURE or self.top_k == 1 or self.top_p == 0.0


def _shown(value: float) -> str:
    return str(value)[:MAX_SHOWN]
