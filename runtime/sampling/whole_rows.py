"""Draws a token from all logits of a row, and computes sums over all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library
from runtime.sampling.adjustments import Changes

BLOCK = 128
"""Weights per block; a draw finds its block first, then the token in it."""
CANCELLATION = 100.0
"""How many times the variance a mean of squares may be, of which another is taken."""


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


def deviations(
    rows: Sequence[NDArray[np.float32]], changed: Sequence[Changes]
) -> NDArray[np.float64]:
    """The standard deviation of each row's logits, changed ones in their places [R].

    Those of minus infinity are left out.
    """
    found = np.empty((len(rows), 4), np.float64)
    for row, of_row in zip(rows, found, strict=True):
        native_library().rocmforge_find_moments(row.ctypes.data, row.size, of_row.ctypes.data)
    middles, counts, sums, squares = found.T.copy()
    largest = squares.copy()
    of = np.repeat(np.arange(len(rows)), [each.tokens.size for each in changed])
    with np.errstate(all="ignore"):
        for sign, logits in (
            (-1, np.concatenate([each.own for each in changed])),
            (+1, np.concatenate([each.values for each in changed])),
        ):
            is_there = logits > -np.inf
            distances = np.where(is_there, logits - middles[of], 0.0)
            counts += sign * np.bincount(of, is_there, len(rows))
            sums += sign * np.bincount(of, distances, len(rows))
            squares += sign * np.bincount(of, distances * distances, len(rows))
        counts = np.maximum(counts, 1)
        variances = squares / counts - (sums / counts) ** 2
        is_sound = variances * counts * CANCELLATION > np.maximum(squares, largest)
    for place in np.flatnonzero(~is_sound).tolist():  # also where one of them is not finite
        values = changed[place].applied(rows[place])
        variances[place] = values[values > -np.inf].var(dtype=np.float64)
    return np.sqrt(variances)


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
