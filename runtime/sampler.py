"""Logits of a step and sampling parameters to one token a row, in NumPy.

The order is temperature, then top-k, then top-p over what is left, as OpenAI's API describes them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidRequest

MAX_TEMPERATURE = 2.0
LEAST_TEMPERATURE = float(np.finfo(np.float32).tiny)
"""Float32's smallest normal number. Logits are divided in float32, where less may be zero."""
COLUMN = 64
"""Logits of which one maximum is kept."""
SORTED = 64
"""Weights that are sorted to find the border of those that are kept."""
HALVINGS = 24
"""Of the range of weights in which the border is looked for, on a logarithmic scale."""
BLOCK = 128
"""Weights that are added up before a draw looks for its place among them."""

Ordered = TypeVar("Ordered", np.intp, np.float32)


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a request picks its tokens. Immutable.

    temperature: 0 to 2, greedy below LEAST_TEMPERATURE. top_k: most likely tokens kept, 0 for all.
    top_p: probability mass kept, 0 for the most likely token alone. seed: fixes the draws; None
    takes a fresh one.

    Raises InvalidRequest naming the field that is out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= MAX_TEMPERATURE):
            raise InvalidRequest(f"temperature must be between 0.0 and {MAX_TEMPERATURE}")
        if self.top_k < 0:
            raise InvalidRequest("top_k must be at least 1")
        if not (math.isfinite(self.top_p) and 0.0 <= self.top_p <= 1.0):
            raise InvalidRequest("top_p must be between 0.0 and 1.0")
        if self.seed is not None and self.seed < 0:
            raise InvalidRequest("seed must not be negative")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, with no draw."""
        return self.temperature < LEAST_TEMPERATURE or self.top_k == 1 or self.top_p == 0.0


class Logits(Protocol):
    """Logits of one step, as far as a sampler asks for them. Valid until the next step."""

    @property
    def likeliest(self) -> list[int]:
        """The token of each row's largest logit, the lowest where several are; NaN is largest."""

    @property
    def finite(self) -> list[bool]:
        """Whether each row has a finite maximum."""

    @property
    def vocabulary_size(self) -> int:
        """Logits of a row."""

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V]."""

    def best(self, row: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Tokens and logits of the `count` largest of a row, largest first, lower ids first."""


class StepLogits:
    """Logits of one step, float32 [R, V], and what is found for all rows at once.

    Owned by the engine thread, valid as long as the array, which is not copied.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values
        likeliest = values.argmax(axis=1)
        self.likeliest: list[int] = likeliest.tolist()
        """The token of each row's largest logit, the lowest where several are; NaN is largest."""
        self.finite: list[bool] = np.isfinite(values[np.arange(len(values)), likeliest]).tolist()
        """Whether each row has a finite maximum."""

    @property
    def vocabulary_size(self) -> int:
        """Logits of a row."""
        size: int = self.values.shape[1]
        return size

    def row(self, row: int) -> NDArray[np.float32]:
        """Every logit of a row [V], not copied."""
        values: NDArray[np.float32] = self.values[row]
        return values

    def best(self, row: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Tokens and logits of the `count` largest of a row, largest first, lower ids first."""
        tokens = self.most_likely(row, count)
        return tokens, self.values[row][tokens]

    @cached_property
    def _column_maxima(self) -> NDArray[np.float32]:
        """[R, V // COLUMN]: entry c is the largest of c, c + V // COLUMN, ... of its row.

        So laid out, the maxima of all rows take a pass of wide instructions over the logits.
        """
        rows, size = self.values.shape
        columns = size // COLUMN
        maxima: NDArray[np.float32] = (
            self.values[:, : columns * COLUMN].reshape(rows, COLUMN, columns).max(axis=1)
        )
        return maxima

    def most_likely(self, row: int, count: int) -> NDArray[np.intp]:
        """Ids of the `count` largest logits of a row, largest first, lower ids before higher ones.

        The count-th largest of the columns' maxima is a bound that `count` logits reach and few
        more; so hardly more than those are sorted.
        """
        logits = self.values[row]
        if count >= logits.size:
            return np.argsort(-logits, kind="stable")
        maxima = self._column_maxima[row] if count <= logits.size // COLUMN else logits
        tokens = np.flatnonzero(logits >= np.partition(maxima, -count)[-count])
        return tokens[np.argsort(-logits[tokens], kind="stable")][:count]


class Sampler:
    """The draws of one request: its parameters and its own generator. Owned by the engine thread.

    A request's draws depend on its seed and on how many it made, never on its company.
    """

    def __init__(self, parameters: SamplingParameters) -> None:
        self._parameters = parameters
        self._generator = None if parameters.greedy else np.random.default_rng(parameters.seed)

    def sample(self, logits: Logits, row: int) -> int:
        """Pick a token from one row of logits. Ties go to the lowest id.

        Raises FloatingPointError where the logits hold no finite maximum.
        """
        if not logits.finite[row]:
            raise FloatingPointError("the model's logits are not finite")
        if self._generator is None:
            return logits.likeliest[row]
        draw = self._generator.random()
        if self._parameters.top_p == 1.0 and not self._keeps_few(logits):
            return _drawn_of_all(self._weights_of_all(logits, row), draw)
        tokens, mass = self._candidates(logits, row)
        return int(tokens[_place(mass, draw * mass[-1])])

    def _keeps_few(self, logits: Logits) -> bool:
        """Whether top_k leaves tokens out."""
        return 0 < self._parameters.top_k < logits.vocabulary_size

    def _candidates(self, logits: Logits, row: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The tokens that may be drawn, in an order of their own, and their cumulative mass."""
        top_k, top_p = self._parameters.top_k, self._parameters.top_p
        if self._keeps_few(logits):
            tokens, values = logits.best(row, top_k)
            mass = np.cumsum(self._weights(values, values[0]), dtype=np.float64)
            return _cut(tokens, mass, top_p * mass[-1])
        return _nucleus(self._weights_of_all(logits, row), top_p)

    def _weights_of_all(self, logits: Logits, row: int) -> NDArray[np.float32]:
        """What every token counts for."""
        values = logits.row(row)
        return self._weights(values, values[logits.likeliest[row]])

    def _weights(self, values: NDArray[np.float32], largest: np.float32) -> NDArray[np.float32]:
        """What tokens of these logits count for, relative to the likeliest, which counts 1."""
        # A difference that is too large for float32 is minus infinity, which counts 0.
        with np.errstate(over="ignore"):
            weights: NDArray[np.float32] = values - largest
            if self._parameters.temperature != 1.0:
                weights /= np.float32(self._parameters.temperature)
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


def _nucleus(
    weights: NDArray[np.float32], top_p: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The smallest set with the share `top_p` of all mass, in order of ids, and its mass.

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
    return tokens[kept], np.cumsum(heavy[kept], dtype=np.float64)


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
    kept, _ = _cut(descending, above + np.cumsum(descending, dtype=np.float64), needed)
    return kept[-1], count + len(kept)


def _place(mass: NDArray[np.float64], sought: float) -> int:
    """The first entry whose cumulative mass is above `sought`, or the last that adds any."""
    last = np.searchsorted(mass, mass[-1], side="left")
    return int(min(np.searchsorted(mass, sought, side="right"), last))


def _cut(
    ordered: NDArray[Ordered], mass: NDArray[np.float64], needed: float
) -> tuple[NDArray[Ordered], NDArray[np.float64]]:
    """The smallest set whose mass reaches `needed`: up to the first that gets there."""
    kept = int(np.searchsorted(mass, needed, side="left")) + 1
    return ordered[:kept], mass[:kept]
