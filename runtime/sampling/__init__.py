"""Logits of a step and the parameters of a request to the request's next token."""

from runtime.sampling.logits import Logits, StepLogits
from runtime.sampling.logprobs import TokenLogprobs, token_logprobs
from runtime.sampling.parameters import (
    BIASES,
    COUNTS,
    MAX_INTEGER,
    MIN_TEMPERATURE,
    RANGES,
    Range,
    SamplingParameters,
)
from runtime.sampling.sampler import Sampler

__all__ = [
    "BIASES",
    "COUNTS",
    "MAX_INTEGER",
    "MIN_TEMPERATURE",
    "RANGES",
    "Logits",
    "Range",
    "Sampler",
    "SamplingParameters",
    "StepLogits",
    "TokenLogprobs",
    "token_logprobs",
]
