"""Draws a token from all logits of a row, and computes sums over all of them."""

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.adjustments import UNCHANGED, Changes

BLOCK = 128
"""Weights per block; a draw finds its block first, then the token in it."""
PROBES = 64
"""Number of logits whose mean approximates that of all."""
CANCELLATION = 16.0
"""Largest ratio of squared mean to variance at which subtracting them is precise enough."""


def drawn_of_all(values: NDArray[np.float32], temperature: float, chance: float) -> int:
    """Return the token at `chance`, 0 to 1, of the cumulative probability of all tokens."""
    weights = _weights(values, temperature)
    mass = np.cumsum(_block_sums(weights), dtype=np.float64)
    sought = chance * mass[-1]
    block = _place(mass, sought)
    before = mass[block - 1] if block else 0.0
    within = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    return block * BLOCK + _place(within, sought - before)


def mass_of(values: NDArray[np.float32]) -> float:
    """Return the sum of exp(logit - largest) of a row."""
    return float(_block_sums(_weights(values)).sum(dtype=np.float64))


def expected_gap(values: NDArray[np.float32]) -> float:
    """Return the expected distance of logits below the largest."""
    weights = _weights(values)
    with np.errstate(over="ignore"):
        gaps = values.max() - values
    weighted = np.multiply(weights, gaps, out=np.zeros_like(gaps), where=weights > 0)
    return float(weighted.sum(dtype=np.float64)) / float(weights.sum(dtype=np.float64))


def deviation(values: NDArray[np.float32], changes: Changes = UNCHANGED) -> float:
    """Return the standard deviation of the changed logits that are not minus infinity."""
    # Relative to an approximate mean, so that the difference below stays precise.
    with np.errstate(all="ignore"):
        middle = np.add.reduce(probes := values[:: max(1, values.size // PROBES)]) / probes.size
        distances = values - middle
        total = float(np.add.reduce(distances))
        squares = float(np.einsum("i,i->", distances, distances))
        count = values.size
        if changes.tokens.size:
            gone = distances[changes.tokens].astype(np.float64)
            come = (changes.values - middle)[changes.values > -np.inf].astype(np.float64)
            total += float(come.sum() - gone.sum())
            squares += float((come * come).sum() - (gone * gone).sum())
            count -= gone.size - come.size
        mean = total / max(count, 1)
        variance = squares / max(count, 1) - mean * mean
    if not CANCELLATION * variance > mean * mean:  # also where one of them is not finite
        changed = changes.applied(values)
        variance = float(changed[changed > -np.inf].var(dtype=np.float64))
    return float(np.sqrt(variance))


def _weights(values: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return exp((logit - largest) / temperature) of each token."""
    # A difference that is too large for float32 is minus infinity, whose weight is 0.
    with np.errstate(over="ignore"):
        weights: NDArray[np.float32] = values - values.max()
        if temperature != 1.0:
            weights /= np.float32(temperature)
        np.exp(weights, out=weights)
    return weights


def _block_sums(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of each BLOCK of weights; the last block may be shorter."""
    sums: NDArray[np.float32] = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK))
    return sums


def _place(mass: NDArray[np.float64], sought: float) -> int:
    """Return the first index whose cumulative mass exceeds `sought`, or the last with mass."""
    last = np.searchsorted(mass, mass[-1], side="left")
    return int(min(np.searchsorted(mass, sought, side="right"), last))
