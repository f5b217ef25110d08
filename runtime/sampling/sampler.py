"""One token from a row of logits, as a request's parameters say, in NumPy.

The order is logit_bias, penalties, top-k, top-p over what is left, min-p, temperature: llama.cpp's.
A temperature of 0 takes the likeliest after the penalties.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.adjustments import Adjustments
from runtime.sampling.logits import Logits, StepLogits
from runtime.sampling.parameters import SamplingParameters

SORTED = 64
"""Weights that are sorted to find the border of those that are kept."""
HALVINGS = 24
"""Of the range of weights in which the border is looked for, on a logarithmic scale."""
BLOCK = 128
"""Weights that are added up before a draw looks for its place among them."""


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
        self._generator = None if parameters.greedy else np.random.default_rng(parameters.seed)

    def sample(self, logits: Logits, row: int) -> int:
        """Pick a token from one row of logits. Ties go to the lowest id.

        Raises FloatingPointError where the logits hold no finite maximum.
        """
        if not logits.finite[row]:
            raise FloatingPointError("the model's logits are not finite")
        if self._adjustments is None:
            return self._pick(logits, row)
        changed = logits.row(row).copy()
        self._adjustments.apply(changed)
        token = self._pick(StepLogits(changed[np.newaxis]), 0)
        self._adjustments.accept(token)
        return token

    def _pick(self, logits: Logits, row: int) -> int:
        """Pick a token from logits as they are."""
        if self._generator is None:
            return logits.likeliest[row]
        draw = self._generator.random()
        keeps_all = self._parameters.top_p == 1.0 and not self._keeps_few(logits)
        if keeps_all and self._parameters.min_p == 0.0:
            return _drawn_of_all(self._tempered(*_row(logits, row)), draw)
        tokens, values = self._candidates(logits, row)
        if self._parameters.min_p > 0.0:
            likely = values >= values.max() + np.float32(math.log(self._parameters.min_p))
            tokens, values = tokens[likely], values[likely]
        mass = np.cumsum(self._tempered(values, values.max()), dtype=np.float64)
        return int(tokens[_place(mass, draw * mass[-1])])

    def _keeps_few(self, logits: Logits) -> bool:
        """Whether top_k leaves tokens out."""
        return 0 < self._parameters.top_k < logits.vocabulary_size

    def _candidates(self, logits: Logits, row: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The tokens that may be drawn, in an order of their own, and their logits."""
        top_k, top_p = self._parameters.top_k, self._parameters.top_p
        if self._keeps_few(logits):
            tokens, values = logits.best(row, top_k)
            mass = np.cumsum(_weights(values, values[0]), dtype=np.float64)
            kept = _enough(mass, top_p * mass[-1])
            return tokens[:kept], values[:kept]
        values, largest = _row(logits, row)
        if top_p == 1.0:
            return np.arange(values.size), values
        tokens = _nucleus(_weights(values, largest), top_p)
        return tokens, values[tokens]

    def _tempered(self, values: NDArray[np.float32], largest: np.float32) -> NDArray[np.float32]:
        """What tokens of these logits count for at the temperature; the likeliest counts 1."""
        return _weights(values, largest, np.float32(self._parameters.temperature))


def _row(logits: Logits, row: int) -> tuple[NDArray[np.float32], np.float32]:
    """Every logit of a row, and the largest."""
    values = logits.row(row)
    return values, values[logits.likeliest[row]]


def _weights(
    values: NDArray[np.float32], largest: np.float32, temperature: np.float32 | None = None
) -> NDArray[np.float32]:
    """What tokens of these logits count for, relative to the likeliest, which counts 1."""
    # A difference that is too large for float32 is minus infinity, which counts 0.
    with np.errstate(over="ignore"):
        weights: NDArray[np.float32] = values - largest
        if temperature not in (None, 1.0):
            weights /= temperature
        np.exp(weights, out=weights)
    return weights


def _block_sums(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of each BLOCK of weights, and of what is left behind the last whole one."""
    sums: NDArray[np.float32] = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK))
    return sums


def _drawn_of_all(weights: NDArray[np.float32], draw: float) -> int:
    """The token at `draw`, 0 to 1, of the mass of all: its block first, then its place there."""
    mass = np.cumsum(_block_sums(weights), dtype=np.float64)
    sought = draw * mass[-1]
    block = _place(mass, sought)
    before = mass[block - 1] if block else 0.0
    within = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    return block * BLOCK + _place(within, sought - before)


def _nucleus(weights: NDArray[np.float32], top_p: float) -> NDArray[np.intp]:
    """The smallest set with the share `top_p` of all mass, in order of ids.

    Of equal weights at its border the lower ids belong to it. Tokens below `least` weigh less
    together than what may be left out, so only the others are looked at again.
    """
    total = _block_sums(weights).sum(dtype=np.float64)
    least = np.float32(total * (1.0 - top_p) / weights.size)
    tokens = np.flatnonzero(weights >= least)
    heavy = weights[tokens]
    border, count = _border(heavy, least, top_p * total)
    kept = np.flatnonzero(heavy >= border)
    if surplus := len(kept) - count:
        kept = np.delete(kept, np.flatnonzero(heavy[kept] == border)[-surplus:])
    return tokens[kept]


def _border(
    weights: NDArray[np.float32], least: np.float32, needed: float
) -> tuple[np.float32, int]:
    """The lightest of the heaviest weights that together reach `needed`, and how many these are.

    The range from `least` to 1 that it lies in is halved until few weights are left to sort, or
    until those that are left are as good as equal.
    """
    low, high = float(least), 1.0
    above, count = 0.0, 0  # of what is heavier than the range
    for _ in range(HALVINGS):
        if len(weights) <= SORTED:
            break
        middle = math.sqrt(low * high)
        is_heavier = weights >= middle
        heavier = weights[is_heavier]
        mass = heavier.sum(dtype=np.float64)
        # Where rounding leaves less than is needed in all of them, all are needed.
        if above + mass >= needed or len(heavier) == len(weights):
            weights, low = heavier, middle
        else:
            above, count = above + mass, count + len(heavier)
            weights, high = weights[~is_heavier], middle
    descending = np.sort(weights)[::-1]
    kept = _enough(above + np.cumsum(descending, dtype=np.float64), needed)
    kept = min(kept, len(descending))
    return descending[kept - 1], count + kept


def _place(mass: NDArray[np.float64], sought: float) -> int:
    """The first entry whose cumulative mass is above `sought`, or the last that adds any."""
    last = np.searchsorted(mass, mass[-1], side="left")
    return int(min(np.searchsorted(mass, sought, side="right"), last))


def _enough(mass: NDArray[np.float64], needed: float) -> int:
    """How many of the first make the smallest set whose mass reaches `needed`."""
    return int(np.searchsorted(mass, needed, side="left")) + 1
