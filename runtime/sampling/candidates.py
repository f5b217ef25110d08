"""The most likely tokens of several rows, and the samplers that filter them.

The rules are those of llama.cpp's samplers. Each row is computed as if it were alone: sums go from
its likeliest token on, whatever stands beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.parameters import (
    MAX_XTC_THRESHOLD,
    MIN_TEMPERATURE,
    SamplingParameters,
)

NUMBERS = (
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """What is known of all tokens of a row, of which not all are candidates. Immutable.

    Weights are relative to the likeliest token, which weighs 1.
    """

    deviation: float = np.nan
    """Standard deviation of the logits; if unknown, that of the candidates."""
    mass: float = np.nan
    """The sum of all weights."""
    gap: float = np.nan
    """How far logits are below the largest, weighted by their probabilities."""


class Candidates:
    """Tokens of several rows that may be drawn, the likeliest first. Owned by the engine thread.

    A logit of minus infinity is that of a token that is left out. Where a row is open, all tokens
    behind its last candidate may be drawn as well: it is settled once they are left out.
    """

    def __init__(
        self,
        tokens: NDArray[np.int64],
        logits: NDArray[np.float32],
        parameters: Sequence[SamplingParameters],
        totals: Sequence[Totals],
        chances: Sequence[tuple[float, float]],
        is_open: NDArray[np.bool_],
    ) -> None:
        """tokens, logits [R, K], sorted; chances: of the draw and of XTC, 0 to 1 each."""
        self.tokens = tokens
        self.logits = logits
        self.is_open = is_open
        self._lacks = np.zeros(len(is_open), bool)
        """Whether a sampler would have had to see what is behind the last candidate."""
        numbers = np.array(list(map(attrgetter(*NUMBERS), parameters)), np.float64)
        columns: list[Floats] = list(numbers.T[:, :, np.newaxis])
        self._numbers = dict(zip(NUMBERS, columns, strict=True))
        known = np.array([(each.deviation, each.mass, each.gap) for each in totals], np.float64)
        self._deviation, self._mass, self._gap = known.T[:, :, np.newaxis]
        self._chance, self._xtc_chance = np.array(chances, np.float64).T[:, :, np.newaxis]

    def apply(self, samplers: Sequence[str]) -> None:
        """Apply the samplers in order."""
        for name in samplers:
            if name in SAMPLERS:
                SAMPLERS[name](self)

    @property
    def is_settled(self) -> NDArray[np.bool_]:
        """Whether what is left of each row is what would be left of all its tokens [R]."""
        return ~(self.is_open | self._lacks)

    def drawn(self) -> list[int]:
        """Draw a token of each row."""
        mass = _cumulative(self._weights())
        total = mass[:, -1:]
        # After the last token with weight there is only the rounding error of the draw.
        place = np.minimum((mass <= self._chance * total).sum(1), (mass < total).sum(1))
        tokens: list[int] = self.tokens[np.arange(len(place)), place].tolist()
        return tokens

    def top_n_sigma(self) -> None:
        """Drop tokens further below the largest logit than this many standard deviations."""
        count = self._numbers["top_n_sigma"]
        if not (count > 0).any():
            return
        is_unknown = np.isnan(self._deviation)
        deviation = self._deviation
        if is_unknown.any():
            deviation = np.where(is_unknown, self._own_deviation(), deviation)
        least = self._largest - count * deviation
        self._keep((count <= 0) | (self.logits >= least))

    def top_k(self) -> None:
        """Drop all but this many of the most likely."""
        count = self._numbers["top_k"]
        self._keep((count == 0) | (np.cumsum(self._is_kept, axis=1) <= count))
        last = int(np.flatnonzero(self._is_kept.any(axis=0))[-1]) + 1
        self.tokens, self.logits = self.tokens[:, :last], self.logits[:, :last]

    def typical_p(self) -> None:
        """Leave out tokens whose surprise is far from the expected one, down to a mass.

        Both are relative to the likeliest token's, so the logarithm of the sum cancels out.
        """
        share = self._numbers["typical_p"]
        if not (share < 1).any():
            return
        weights, gaps = self._weights(), self._gaps()
        mass = self._total(weights)
        expected = self._expected_gap(weights, gaps)
        distances = np.where(self._is_kept, np.abs(gaps - expected), np.inf)
        order = np.argsort(distances, axis=1, kind="stable")
        before = _before(_cumulative(np.take_along_axis(weights, order, axis=1)))
        kept = np.empty_like(before, bool)
        np.put_along_axis(kept, order, before <= share * mass, axis=1)
        # Tokens that are less likely are further away, unless they come closer at first.
        comes_closer = gaps[:, -1:] < expected
        self._keep((share >= 1) | kept, may_return=comes_closer & (share < 1))
        self._needs_all(share < 1)

    def top_p(self) -> None:
        """Leave out all but the smallest set of the likeliest that reaches a mass."""
        share = self._numbers["top_p"]
        if not (share < 1).any():
            return
        weights = self._weights()
        before = _before(_cumulative(weights))
        is_first = np.cumsum(self._is_kept, axis=1) == 1
        self._keep((share >= 1) | is_first | (before < share * self._total(weights)))

    def min_p(self) -> None:
        """Leave out tokens that are less likely than a share of the likeliest."""
        share = self._numbers["min_p"].astype(np.float32)
        if not (share > 0).any():
            return
        with np.errstate(divide="ignore"):
            least = self._largest + np.log(share)
        self._keep((share <= 0) | (self.logits >= least))

    def xtc(self) -> None:
        """Drop all likely tokens but the last of them, with a given probability (XTC)."""
        probability, threshold = self._numbers["xtc_probability"], self._numbers["xtc_threshold"]
        acts = (probability > 0) & (threshold <= MAX_XTC_THRESHOLD)
        acts &= self._xtc_chance <= probability
        if not acts.any():
            return
        self._needs_all(acts)
        weights = self._weights()
        is_likely = self._is_kept & (weights >= threshold * self._total(weights))
        likely = np.cumsum(is_likely, axis=1)
        self._keep(~(acts & is_likely & (likely < likely[:, -1:])))

    def temperature(self) -> None:
        """Divide the logits, relative to the largest; at temperature 0 drop all others."""
        temperature = self._temperatures()
        is_cold = temperature < MIN_TEMPERATURE
        self._keep(~is_cold | (np.cumsum(self._is_kept, axis=1) == 1))
        divisor = np.where(is_cold, 1.0, temperature).astype(np.float32)
        # A difference that is too large for float32 is minus infinity, which weighs 0.
        with np.errstate(over="ignore"):
            self.logits = (self.logits - self._largest) / divisor

    def _temperatures(self) -> Floats:
        """Return each row's temperature, which may depend on the entropy of its tokens."""
        middle, width = self._numbers["temperature"], self._numbers["dynatemp_range"]
        if not (width > 0).any():
            return middle
        self._needs_all(width > 0)
        weights = self._weights()
        mass = self._total(weights)
        entropy = np.log(mass) + self._expected_gap(weights, self._gaps())
        count = self._is_kept.sum(axis=1, keepdims=True)
        share = np.maximum(entropy, 0.0) / np.log(np.maximum(count, 2))
        low, high = np.maximum(0.0, middle - width), middle + width
        found: Floats = low + (high - low) * share ** self._numbers["dynatemp_exponent"]
        temperatures: Floats = np.where((width > 0) & (count > 1), found, middle)
        return temperatures

    def _own_deviation(self) -> Floats:
        """The standard deviation of the candidates' logits."""
        count = self._is_kept.sum(axis=1, keepdims=True)
        gaps = self._gaps()
        distances = np.where(self._is_kept, gaps - _cumulative(gaps)[:, -1:] / count, 0.0)
        deviation: Floats = np.sqrt(_cumulative(distances**2)[:, -1:] / count)
        return deviation

    @property
    def _is_kept(self) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self.logits > -np.inf
        return kept

    @property
    def _largest(self) -> NDArray[np.float32]:
        largest: NDArray[np.float32] = self.logits.max(axis=1, keepdims=True)
        return largest

    def _weights(self) -> NDArray[np.float32]:
        """Return the weights of tokens, relative to the most likely, whose weight is 1."""
        with np.errstate(over="ignore"):
            weights: NDArray[np.float32] = np.exp(self.logits - self._largest)
        return weights

    def _gaps(self) -> Floats:
        """Return the distance of logits below the largest; 0 for a dropped token."""
        with np.errstate(over="ignore"):
            gaps = (self._largest - self.logits).astype(np.float64)
        return np.where(self._is_kept, gaps, 0.0)

    def _total(self, weights: NDArray[np.float32]) -> Floats:
        """The sum of a row's weights, with those of tokens behind the candidates."""
        return np.where(self.is_open[:, np.newaxis], self._mass, _cumulative(weights)[:, -1:])

    def _expected_gap(self, weights: NDArray[np.float32], gaps: Floats) -> Floats:
        own: Floats = _cumulative(weights * gaps)[:, -1:] / _cumulative(weights)[:, -1:]
        return np.where(self.is_open[:, np.newaxis], self._gap, own)

    def _needs_all(self, rows: NDArray[np.bool_]) -> None:
        """Note the rows [R, 1] that must not be open from here on."""
        self._lacks = self._lacks | (self.is_open & rows[:, 0])

    def _keep(self, kept: NDArray[np.bool_], may_return: NDArray[np.bool_] | bool = False) -> None:
        """Drop the others; with its last candidate a row loses those after it."""
        self.logits = np.where(kept, self.logits, np.float32(-np.inf))
        self.is_open = self.is_open & (kept[:, -1:] | may_return)[:, 0]


SAMPLERS: Mapping[str, Callable[[Candidates], None]] = {
    "top_n_sigma": Candidates.top_n_sigma,
    "top_k": Candidates.top_k,
    "typ_p": Candidates.typical_p,
    "top_p": Candidates.top_p,
    "min_p": Candidates.min_p,
    "xtc": Candidates.xtc,
    "temperature": Candidates.temperature,
}
"""Those that leave tokens out or change all logits, by their names."""


def _cumulative(values: NDArray[np.float32] | Floats) -> Floats:
    """Return cumulative sums of each row: later values do not change them."""
    sums: Floats = np.cumsum(values, axis=1, dtype=np.float64)
    return sums


def _before(sums: Floats) -> Floats:
    """Return the sum before each."""
    return np.concatenate([np.zeros((len(sums), 1)), sums[:, :-1]], axis=1)
