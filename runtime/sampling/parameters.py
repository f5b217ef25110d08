"""The sampling parameters of a request: type and range of each, for all routes and commands."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from runtime.errors import InvalidRequest
from runtime.sampling.breakers import NO_BREAKERS, BreakerTable, SequenceBreakers
from runtime.sampling_ranges import MAX_SHOWN, RANGES, Range

MIN_TEMPERATURE = float(np.finfo(np.float32).tiny)
"""Float32's smallest normal number. Logits are divided in float32, where less may be zero."""
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
"""Range of a logit bias, as in OpenAI's API."""
MAX_BREAKERS = 32
"""Sequence breakers of a request."""
MAX_BREAKER_BYTES = 40
"""Of a sequence breaker, as in llama.cpp."""
MAX_XTC_THRESHOLD = 0.5
"""At most one token is more likely than that, so none is dropped above it."""

OFF: Mapping[str, Mapping[str, float]] = {
    "penalties": {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "dry": {"dry_multiplier": 0.0},
    "top_n_sigma": {"top_n_sigma": 0.0},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {"xtc_probability": 0.0},
    "temperature": {"temperature": 1.0, "dynatemp_range": 0.0},
}
"""The samplers in llama.cpp's order and under its names, and the values with which each does
nothing."""
SAMPLERS = tuple(OFF)
CHANGE_LOGITS = SAMPLERS[:2]
"""The samplers that change single logits; they run before all others."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """The sampling parameters of a request. Immutable.

    Raises InvalidRequest naming the field that is out of range.
    """

    temperature: float = 1.0
    """Divides the logits; below MIN_TEMPERATURE the likeliest token is taken."""
    top_k: int = 50
    """The most likely tokens that are kept; 0 for all."""
    top_p: float = 0.9
    """The probability mass that is kept; 0 for the most likely token alone."""
    seed: int | None = None
    """Fixes the draws; None takes a fresh one."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest are left out."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens in the window and multiplies others."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens in the window."""
    frequency_penalty: float = 0.0
    """Subtracted once per occurrence."""
    repeat_last_n: int = 64
    """The window: the last tokens of prompt and answer, -1 for all."""
    min_tokens: int = 0
    """Minimum number of tokens before one that ends the request is allowed."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens and the values added to their logits."""
    stop_token_ids: frozenset[int] = frozenset()
    """Tokens that end the text."""
    typical_p: float = 1.0
    """The mass that is kept of the tokens whose surprise is closest to the expected one."""
    top_n_sigma: float = 0.0
    """Standard deviations below the largest logit within which tokens are kept; from 0 down off."""
    xtc_probability: float = 0.0
    """Probability that all likely tokens but the last are dropped."""
    xtc_threshold: float = 0.1
    """The probability from which on a token counts as likely for that."""
    dry_multiplier: float = 0.0
    """The penalty of a token that continues a repetition of dry_allowed_length tokens."""
    dry_base: float = 1.75
    """Factor of the penalty for each further token of the repetition."""
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    """Number of last tokens that are searched for repetitions, -1 for all."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """Texts beyond which no repetition reaches."""
    dynatemp_range: float = 0.0
    """Range of the temperature by entropy."""
    dynatemp_exponent: float = 1.0
    """The power of the entropy, as a share of the largest, that it goes with."""
    samplers: tuple[str, ...] = SAMPLERS
    """The samplers that act, in their order."""
    breakers: SequenceBreakers = field(default=NO_BREAKERS, repr=False, compare=False)
    """The tokens of dry_sequence_breakers in the model's vocabulary."""
    greedy: bool = field(init=False, repr=False, compare=False)
    """Whether the most likely token is taken, with no draw."""
    in_default_order: bool = field(init=False, repr=False, compare=False)
    """Whether the samplers that act do so in llama.cpp's order."""

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            if (value := getattr(self, name)) is not None:
                allowed.checked(name, value)
        for _, bias in self.logit_bias:
            BIASES.checked("logit_bias", bias)
        _check_breakers(self.dry_sequence_breakers)
        _check_order(self.samplers)
        for sampler, values in OFF.items():
            if sampler not in self.samplers:
                for name, value in values.items():
                    object.__setattr__(self, name, value)
        object.__setattr__(self, "greedy", self._is_greedy())
        in_order = tuple(name for name in SAMPLERS if name in self.samplers)
        object.__setattr__(self, "in_default_order", self.samplers == in_order)

    def with_breakers(self, table: BreakerTable) -> "SamplingParameters":
        """Return the parameters with the tokens of their sequence breakers, if DRY is on."""
        if not self.breaks_repetitions:
            return self
        return replace(self, breakers=table.of(self.dry_sequence_breakers))

    @property
    def penalizes(self) -> bool:
        """Whether tokens are penalized for having been said."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def breaks_repetitions(self) -> bool:
        """Whether tokens that continue a repetition are penalized."""
        return self.dry_multiplier > 0 and self.dry_penalty_last_n != 0

    @property
    def leaves_out_likely(self) -> bool:
        """Whether tokens are left out for being likely (XTC)."""
        return self.xtc_probability > 0 and self.xtc_threshold <= MAX_XTC_THRESHOLD

    @property
    def draws_of_all(self) -> bool:
        """Whether no token is dropped, whatever the logits (except by top_k)."""
        return (
            (self.top_p, self.typical_p, self.min_p, self.dynatemp_range) == (1, 1, 0, 0)
            and self.top_n_sigma <= 0
            and not self.leaves_out_likely
        )

    def _is_greedy(self) -> bool:
        takes_one = (
            self.temperature + self.dynatemp_range < MIN_TEMPERATURE
            or self.top_k == 1
            or self.top_p == 0.0
        )
        return takes_one and self.typical_p == 1.0 and not self.leaves_out_likely


def _check_breakers(breakers: tuple[str, ...]) -> None:
    field = "dry_sequence_breakers"
    if len(breakers) > MAX_BREAKERS:
        raise InvalidRequest(f"{field} must be at most {MAX_BREAKERS}", field=field)
    if any(len(text.encode()) > MAX_BREAKER_BYTES for text in breakers):
        raise InvalidRequest(
            f"each of {field} must have at most {MAX_BREAKER_BYTES} bytes", field=field
        )


def _check_order(samplers: tuple[str, ...]) -> None:
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise InvalidRequest(
            f"samplers can name {', '.join(SAMPLERS)}, not {unknown[0][:MAX_SHOWN]}",
            field="samplers",
        )
    if len(set(samplers)) != len(samplers):
        raise InvalidRequest("samplers must name each sampler once", field="samplers")
    changing = [name for name in samplers if name in CHANGE_LOGITS]
    if tuple(changing) != samplers[: len(changing)] or changing != sorted(changing, reverse=True):
        raise InvalidRequest(
            "samplers must have penalties first and dry behind them", field="samplers"
        )
