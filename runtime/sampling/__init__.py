"""Samples a request's next token from a step's logits."""

from runtime.sampling.allowed import AllowedLogits
from runtime.sampling.breakers import BreakerTable, SequenceBreakers
from runtime.sampling.logits import Logits, RowMemory, StepLogits
from runtime.sampling.logprobs import TokenLogprobs, token_logprobs
from runtime.sampling.parameters import (
    BIASES,
    COUNTS,
    MIN_TEMPERATURE,
    SAMPLERS,
    SamplingParameters,
)
from runtime.sampling.sampler import Sampler, sample
from runtime.sampling_ranges import MAX_INTEGER, RANGES, Range

__all__ = [
    "BIASES",
    "COUNTS",
    "MAX_INTEGER",
    "MIN_TEMPERATURE",
    "RANGES",
    "SAMPLERS",
    "AllowedLogits",
    "BreakerTable",
    "Logits",
    "Range",
    "RowMemory",
    "Sampler",
    "SamplingParameters",
    "SequenceBreakers",
    "StepLogits",
    "TokenLogprobs",
    "sample",
    "token_logprobs",
]
