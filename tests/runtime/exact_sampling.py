"""What the native samplers do, in NumPy over all tokens of one row: equal to the last bit.

Only the weights of single logits come from the library; their sums are exact in whatever order.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.sampling import MIN_TEMPERATURE, SamplingParameters, StepLogits
from runtime.sampling.rows import Row, kept, template_of

Floats = NDArray[np.float32]
STEP = 2.0**-34
"""Weights, and their products with distances, are multiples of it."""


def row_of(
    logits: Floats, wanted: SamplingParameters, chance: float = 0.0, xtc: float = 0.0
) -> Row:
    """A row to draw from, with its random numbers."""
    return Row(template_of(wanted, logits.size), StepLogits(logits[np.newaxis]), 0, (chance, xtc))


def weights_of(logits: Floats, temperature: float) -> NDArray[np.float64]:
    """The weights of logits, of which the first is the largest; those of the same are the same."""
    if temperature > 2:  # beyond the range of requests; halves are exact
        return weights_of(logits / np.float32(2), temperature / 2)
    wanted = SamplingParameters(temperature=temperature, top_k=0, top_p=1.0)
    tokens, weights = kept(row_of(logits, wanted))
    found = np.zeros(logits.size)
    found[tokens] = weights
    return found


class Left:
    """The tokens of a row that samplers leave, the likeliest first. Owned by one test."""

    def __init__(self, logits: Floats, wanted: SamplingParameters, xtc: float) -> None:
        self._wanted = wanted
        self._chance = xtc
        self.tokens = np.argsort(-logits, kind="stable")
        self.tokens = self.tokens[logits[self.tokens] > -np.inf]
        self._logits = logits[self.tokens]
        self._divisor = 1.0
        self._is_tempered = False
        with np.errstate(over="ignore"):
            for name in wanted.samplers:
                if method := getattr(self, f"_{name}", None):
                    method()

    @property
    def weights(self) -> NDArray[np.float64]:
        return weights_of(self._logits, self._divisor)

    @property
    def _gaps(self) -> Floats:
        gaps: Floats = (self._logits[0] - self._logits) / np.float32(self._divisor)
        return gaps

    def drawn(self, chance: float) -> int:
        sums = np.cumsum(self.weights)
        place = min((sums <= chance * sums[-1]).sum(), (sums < sums[-1]).sum())
        return int(self.tokens[place])

    def _keep(self, places: NDArray[np.bool_] | NDArray[np.int64]) -> None:
        self.tokens, self._logits = self.tokens[places], self._logits[places]

    def _keep_first(self, count: int) -> None:
        self.tokens, self._logits = self.tokens[: max(1, count)], self._logits[: max(1, count)]

    def _expected_gap(self) -> float:
        weighted = np.round(self.weights * np.minimum(self._gaps, 100).astype(np.float64) / STEP)
        return float(weighted.sum() * STEP / self.weights.sum())

    def _top_n_sigma(self) -> None:
        if self._wanted.top_n_sigma > 0:
            distances = self._logits.astype(np.float64) - self._logits[0]
            mean = distances.sum() / distances.size
            variance = (distances * distances).sum() / distances.size - mean * mean
            deviation = np.sqrt(max(0.0, variance))
            least = self._logits[0].astype(np.float64) - self._wanted.top_n_sigma * deviation
            self._keep(self._logits.astype(np.float64) >= least)

    def _top_k(self) -> None:
        if self._wanted.top_k:
            self._keep_first(self._wanted.top_k)

    def _typ_p(self) -> None:
        if self._wanted.typical_p < 1:
            distances = abs(self._gaps.astype(np.float64) - self._expected_gap())
            order = np.argsort(distances, kind="stable")
            sums = np.cumsum(self.weights[order])
            count = 1 + (sums[:-1] <= self._wanted.typical_p * sums[-1]).sum()
            self._keep(np.sort(order[:count]))

    def _top_p(self) -> None:
        if self._wanted.top_p < 1:
            sums = np.cumsum(self.weights)
            self._keep_first(1 + (sums[:-1] < self._wanted.top_p * sums[-1]).sum())

    def _min_p(self) -> None:
        if self._wanted.min_p > 0:
            least = np.log(np.float32(self._wanted.min_p))
            if self._is_tempered:
                self._keep(-self._gaps >= least)
            else:
                self._keep(self._logits >= self._logits[0] + least)

    def _xtc(self) -> None:
        if self._wanted.leaves_out_likely and self._chance <= self._wanted.xtc_probability:
            weights = self.weights
            likely = (weights >= self._wanted.xtc_threshold * weights.sum()).sum()
            self._keep(np.arange(max(likely - 1, 0), weights.size))

    def _temperature(self) -> None:
        temperature = np.float32(self._temperature_of())
        if temperature < MIN_TEMPERATURE:
            self._keep_first(1)
        else:
            self._divisor, self._is_tempered = float(temperature), True

    def _temperature_of(self) -> float:
        wanted = self._wanted
        if wanted.dynatemp_range <= 0 or self.tokens.size < 2:
            return wanted.temperature
        entropy = max(0.0, np.log(self.weights.sum()) + self._expected_gap())
        low = max(0.0, wanted.temperature - wanted.dynatemp_range)
        high = wanted.temperature + wanted.dynatemp_range
        share = entropy / np.log(self.tokens.size)
        return float(low + (high - low) * share**wanted.dynatemp_exponent)
