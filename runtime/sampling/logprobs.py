"""The logarithms of the probabilities that a model gives to tokens, before any sampling."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.logits import Logits

LEAST = -9999.0
"""Stands for smaller logarithms and for minus infinity, which JSON lacks. Source: OpenAI's API."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Logprobs of one token of a text, and of the most likely ones at its position. Immutable."""

    token: int
    logprob: float
    rank: int
    """1 + the number of tokens that are likelier."""
    top_tokens: NDArray[np.intp]
    """[N] ids of the likeliest, likeliest first; of equal ones the lowest id first."""
    top_logprobs: NDArray[np.float64]
    """[N]"""


def token_logprobs(logits: Logits, row: int, token: int, count: int) -> TokenLogprobs:
    """Return the logprobs of a token and of the `count` most likely, from one row of logits.

    log softmax(x)[t] = x[t] - max(x) - log(sum(exp(x - max(x)))): differences and their exp in
    float32, the sum and what follows in float64. Raises FloatingPointError if the logits have no
    finite maximum.
    """
    if not logits.finite[row]:
        raise FloatingPointError("the model's logits are not finite")
    values = logits.row(row)
    largest = values[logits.likeliest[row]]
    with np.errstate(over="ignore"):  # a difference too large for float32 weighs nothing
        weights = np.exp(values - largest)
    total = float(largest) + math.log(weights.sum(dtype=np.float64))
    top = _likeliest(values, count)
    return TokenLogprobs(
        token,
        max(float(values[token]) - total, LEAST),
        1 + int(np.count_nonzero(values > values[token])),
        top,
        np.maximum(values[top].astype(np.float64) - total, LEAST),
    )


def _likeliest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    if count == 0:
        return np.empty(0, np.intp)
    count = min(count, values.size)
    least = np.partition(values, -count)[-count]
    tokens = np.flatnonzero(values >= least)
    return tokens[np.argsort(-values[tokens], kind="stable")][:count]
