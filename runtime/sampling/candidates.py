"""The most likely tokens of several rows, and the samplers that filter them.

The rules are those of llama.cpp's samplers. Each row is computed as if it were alone: sums go from
its likeliest token on, whatever stands beside it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.parameters import MIN_TEMPERATURE, SamplingParameters
from runtime.sampling_ranges import MAX_INTEGER

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


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

    The first `counts` of a row are left. Where a row is open, all tokens behind its last candidate
    may be drawn as well: it is settled once they are left out.
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
        self.counts: Integers = (logits > -np.inf).sum(axis=1)
        self._is_open = is_open & (self.counts == tokens.shape[1])
        self._lacks = np.zeros(len(is_open), bool)
        """Whether a sampler would have had to see what is behind the last candidate."""
        self._parameters = parameters
        self._totals = totals
        self._chances = chances
        self._rows = np.arange(len(tokens))
        self._known_weights: NDArray[np.float32] | None = None
        self._known_sums: Floats | None = None

    def apply(self, samplers: Sequence[str]) -> None:
        """Apply the samplers in order."""
        # A difference that is too large for float32 is minus infinity, which weighs 0.
        with np.errstate(over="ignore"):
            for name in samplers:
                if name in SAMPLERS:
                    SAMPLERS[name](self)

    @property
    def is_settled(self) -> NDArray[np.bool_]:
        """Whether what is left of each row is what would be left of all its tokens [R]."""
        settled: NDArray[np.bool_] = ~(self._is_open | self._lacks)
        return settled

    def drawn(self) -> list[int]:
        """Draw a token of each row."""
        with np.errstate(over="ignore"):
            sums = self._sums
        total = self._last(sums)[:, np.newaxis]
        chance = np.array([chance for chance, _ in self._chances])[:, np.newaxis]
        # After the last token with weight there is only the rounding error of the draw.
        place = np.minimum((sums <= chance * total).sum(axis=1), (sums < total).sum(axis=1))
        tokens: list[int] = self.tokens[self._rows, place].tolist()
        return tokens

    def top_n_sigma(self) -> None:
        """Drop tokens further below the largest logit than this many standard deviations."""
        if all(each.top_n_sigma <= 0 for each in self._parameters):
            return
        # Off is infinitely many of them.
        width = self._numbers(
            each.top_n_sigma if each.top_n_sigma > 0 else np.inf for each in self._parameters
        )
        deviation = self._numbers(each.deviation for each in self._totals)
        if (is_unknown := np.isnan(deviation)).any():
            deviation = np.where(is_unknown, self._own_deviation(), deviation)
        with np.errstate(invalid="ignore"):
            least = self.logits[:, :1] - width * deviation
            # No deviation, times infinity, is no number and no bound either.
            count = self.tokens.shape[1] - (self.logits < least).sum(axis=1)
        self._cut(np.minimum(self.counts, count))

    def top_k(self) -> None:
        """Drop all but this many of the most likely."""
        most = [each.top_k or MAX_INTEGER for each in self._parameters]
        self._cut(np.minimum(self.counts, most))
        self._narrow(int(self.counts.max()))

    def typical_p(self) -> None:
        """Leave out tokens whose surprise is far from the expected one, down to a mass.

        Both are relative to the likeliest token's, so the logarithm of the sum cancels out.
        """
        if all(each.typical_p >= 1 for each in self._parameters):
            return
        share = self._numbers(each.typical_p for each in self._parameters)
        acts = share < 1
        gaps = self._gaps()
        expected = self._expected_gap(gaps)
        distances = np.where(self._is_left, np.abs(gaps - expected), np.inf)
        order = np.argsort(distances, axis=1, kind="stable")
        sums = _cumulative(self._weights[self._rows[:, np.newaxis], order])
        count = 1 + (sums[:, :-1] <= share * self._total()).sum(axis=1)
        kept = np.minimum(self.counts, count)
        # Tokens that are less likely are further away, unless they come closer at first.
        is_last_kept = (order == order.shape[1] - 1).argmax(axis=1) < kept
        may_return = gaps[:, -1] < expected[:, 0]
        self._is_open &= ~acts[:, 0] | is_last_kept | may_return
        self._needs_all(acts[:, 0])
        places = np.where(acts, order, self._columns)
        kept = np.where(acts[:, 0], kept, self.counts)
        places = np.where(self._columns < kept[:, np.newaxis], places, places.shape[1] - 1)
        self._take(np.sort(places, axis=1), kept)

    def top_p(self) -> None:
        """Leave out all but the smallest set of the likeliest that reaches a mass."""
        if all(each.top_p >= 1 for each in self._parameters):
            return
        share = self._numbers(each.top_p for each in self._parameters)
        count = 1 + (self._sums[:, :-1] < share * self._total()).sum(axis=1)
        self._cut(np.minimum(self.counts, np.where(share[:, 0] < 1, count, self.counts)))

    def min_p(self) -> None:
        """Leave out tokens that are less likely than a share of the likeliest."""
        if all(each.min_p <= 0 for each in self._parameters):
            return
        share = self._numbers(each.min_p for each in self._parameters).astype(np.float32)
        with np.errstate(divide="ignore"):
            least = self.logits[:, :1] + np.log(share)
        self._cut(np.minimum(self.counts, (self.logits >= least).sum(axis=1)))

    def xtc(self) -> None:
        """Drop all likely tokens but the last of them, with a given probability (XTC)."""
        acts = np.array(
            [
                each.leaves_out_likely and chance <= each.xtc_probability
                for each, (_, chance) in zip(self._parameters, self._chances, strict=True)
            ]
        )
        if not acts.any():
            return
        self._needs_all(acts)
        threshold = self._numbers(each.xtc_threshold for each in self._parameters)
        likely = (self._weights >= threshold * self._total()).sum(axis=1)
        dropped = np.where(acts, np.maximum(np.minimum(likely, self.counts) - 1, 0), 0)
        places = self._columns + dropped[:, np.newaxis]
        self._take(np.minimum(places, places.shape[1] - 1), self.counts - dropped)

    def temperature(self) -> None:
        """Divide the logits, relative to the largest; at temperature 0 drop all others."""
        temperature = self._temperatures()
        if (temperature == 1).all():
            return
        is_cold = temperature < MIN_TEMPERATURE
        if is_cold.any():
            self._cut(np.where(is_cold[:, 0], 1, self.counts))
            temperature = np.where(is_cold, 1.0, temperature)
        gaps: NDArray[np.float32] = self.logits - self.logits[:, :1]
        divisor: NDArray[np.float32] = temperature.astype(np.float32)
        self.logits = np.divide(gaps, divisor)
        self._known_weights = self._known_sums = None

    def _temperatures(self) -> Floats:
        """Return each row's temperature, which may depend on the entropy of its tokens."""
        middle = self._numbers(each.temperature for each in self._parameters)
        if all(each.dynatemp_range <= 0 for each in self._parameters):
            return middle
        width = self._numbers(each.dynatemp_range for each in self._parameters)
        exponent = self._numbers(each.dynatemp_exponent for each in self._parameters)
        self._needs_all(width[:, 0] > 0)
        entropy = np.log(self._total()) + self._expected_gap(self._gaps())
        count = self.counts[:, np.newaxis]
        share = np.maximum(entropy, 0.0) / np.log(np.maximum(count, 2))
        low, high = np.maximum(0.0, middle - width), middle + width
        found: Floats = low + (high - low) * share**exponent
        return np.where((width > 0) & (count > 1), found, middle)

    def _own_deviation(self) -> Floats:
        """The standard deviation of the candidates' logits."""
        count = self.counts[:, np.newaxis]
        gaps = self._gaps()
        distances = np.where(self._is_left, gaps - _cumulative(gaps)[:, -1:] / count, 0.0)
        deviation: Floats = np.sqrt(_cumulative(distances**2)[:, -1:] / count)
        return deviation

    @property
    def _columns(self) -> Integers:
        return np.arange(self.tokens.shape[1])

    @property
    def _is_left(self) -> NDArray[np.bool_]:
        left: NDArray[np.bool_] = self._columns < self.counts[:, np.newaxis]
        return left

    @property
    def _weights(self) -> NDArray[np.float32]:
        """The weights of candidates, left or not, relative to the likeliest, which weighs 1."""
        if self._known_weights is None:
            weights: NDArray[np.float32] = np.exp(self.logits - self.logits[:, :1])
            self._known_weights = weights
        return self._known_weights

    @property
    def _sums(self) -> Floats:
        """The weights of candidates up to each."""
        if self._known_sums is None:
            self._known_sums = _cumulative(self._weights)
        return self._known_sums

    def _gaps(self) -> Floats:
        """Return the distance of logits below the largest; 0 for a dropped token."""
        logits = np.where(self._is_left, self.logits, self.logits[:, :1]).astype(np.float64)
        gaps: Floats = logits[:, :1] - logits
        return gaps

    def _total(self) -> Floats:
        """The sum of a row's weights, with those of tokens behind the candidates [R, 1]."""
        total = self._last(self._sums)
        if self._is_open.any():
            total = np.where(self._is_open, [each.mass for each in self._totals], total)
        return total[:, np.newaxis]

    def _expected_gap(self, gaps: Floats) -> Floats:
        """The mean of gaps, weighted by probabilities [R, 1]."""
        own = self._last(_cumulative(self._weights * gaps)) / self._last(self._sums)
        if self._is_open.any():
            own = np.where(self._is_open, [each.gap for each in self._totals], own)
        return own[:, np.newaxis]

    def _last(self, sums: Floats) -> Floats:
        """The sum up to the last token that is left [R]."""
        last: Floats = sums[self._rows, self.counts - 1]
        return last

    def _numbers(self, values: Iterable[float]) -> Floats:
        """One number for each row [R, 1]."""
        return np.fromiter(values, np.float64, len(self._rows))[:, np.newaxis]

    def _needs_all(self, rows: NDArray[np.bool_]) -> None:
        """Note the rows [R] that must not be open from here on."""
        self._lacks |= self._is_open & rows

    def _cut(self, counts: Integers) -> None:
        """Leave this many; with its last candidate a row loses those after it."""
        self.counts = counts
        self._is_open &= counts == self.tokens.shape[1]

    def _narrow(self, width: int) -> None:
        """Forget the candidates from a column on, which no row has left."""
        self.tokens, self.logits = self.tokens[:, :width], self.logits[:, :width]
        if self._known_weights is not None:
            self._known_weights = self._known_weights[:, :width]
        if self._known_sums is not None:
            self._known_sums = self._known_sums[:, :width]

    def _take(self, places: Integers, counts: Integers) -> None:
        """Leave the first `counts` of the candidates at these places [R, K]."""
        self.tokens = self.tokens[self._rows[:, np.newaxis], places]
        self.logits = self.logits[self._rows[:, np.newaxis], places]
        self.counts = counts
        self._known_weights = self._known_sums = None


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
