"""The definition of every sampler, in float64 and one after the other: what tests compare with."""

import math
from collections.abc import Sequence

import numpy as np

from runtime.sampling import SamplingParameters


def kept(
    logits: Sequence[float], wanted: SamplingParameters, chance: float, slack: float = 0.0
) -> list[tuple[int, float]]:
    """The tokens that may be drawn and their probabilities, the likeliest first.

    chance: of XTC, 0 to 1. slack: moves every border by this share, as rounding might.
    """
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    left = [(token, float(logits[token])) for token in order if logits[token] > -math.inf]
    for name in wanted.samplers:
        left = _left(left, name, wanted, chance, slack)
    weights = _probabilities(left)
    return [(token, share) for (token, _), share in zip(left, weights, strict=True)]


def _probabilities(left: list[tuple[int, float]]) -> list[float]:
    weights = np.exp(np.array([value for _, value in left]) - left[0][1])
    shares: list[float] = (weights / weights.sum()).tolist()
    return shares


def _left(
    left: list[tuple[int, float]],
    name: str,
    wanted: SamplingParameters,
    chance: float,
    slack: float,
) -> list[tuple[int, float]]:
    shares = _probabilities(left)
    values = np.array([value for _, value in left])
    wider = 1 + slack
    match name:
        case "top_n_sigma" if wanted.top_n_sigma > 0:
            least = values.max() - wanted.top_n_sigma * values.std() * wider - slack
            return [each for each in left if each[1] >= min(least, values.max())]
        case "top_k" if wanted.top_k:
            return left[: wanted.top_k]
        case "typ_p" if wanted.typical_p < 1:
            surprises = -np.log(np.array(shares))
            distances = np.abs(surprises - np.dot(shares, surprises))
            closest = np.argsort(np.round(distances, 9), kind="stable").tolist()
            before = np.cumsum([0.0, *(shares[place] for place in closest)])
            chosen = {
                place
                for place, mass in zip(closest, before, strict=False)
                if mass <= wanted.typical_p * wider
            }
            return [each for place, each in enumerate(left) if place in chosen]
        case "top_p" if wanted.top_p < 1:
            before = np.cumsum([0.0, *shares])
            count = sum(mass < wanted.top_p * wider for mass in before[:-1])
            return left[: max(1, count)]
        case "min_p" if wanted.min_p > 0:
            return [
                each
                for each, share in zip(left, shares, strict=True)
                if share >= min(1.0, wanted.min_p / wider) * shares[0]
            ]
        case "xtc" if wanted.leaves_out_likely and chance <= wanted.xtc_probability:
            likely = sum(share >= wanted.xtc_threshold / wider for share in shares)
            return left[max(0, likely - 1) :]
        case "temperature":
            temperature = wanted.temperature
            if wanted.dynatemp_range > 0 and len(left) > 1:
                entropy = -sum(share * math.log(share) for share in shares if share)
                low = max(0.0, temperature - wanted.dynatemp_range)
                high = temperature + wanted.dynatemp_range
                power = (entropy / math.log(len(left))) ** wanted.dynatemp_exponent
                temperature = low + (high - low) * power
            if temperature < 1e-37:
                return left[:1]
            return [(token, value / temperature) for token, value in left]
    return left


def shares(
    logits: np.ndarray, wanted: SamplingParameters, said: list[int], generated: int = 0
) -> np.ndarray:
    """The probability of every token to be drawn next."""
    changed = changed_logits(logits, said, wanted, generated, set())
    probability = wanted.xtc_probability if wanted.leaves_out_likely else 0.0
    found = np.zeros(len(changed))
    for chance, weight in ((0.0, probability), (1.0, 1 - probability)):
        if weight:
            for token, share in kept(changed, wanted, chance):
                found[token] += weight * share
    return found


def changed_logits(
    logits: np.ndarray,
    said: list[int],
    wanted: SamplingParameters,
    generated: int,
    ends: set[int],
) -> list[float]:
    """The logits of a row after `said`, the last `generated` tokens of which are the answer."""
    size = wanted.repeat_last_n
    window = said if size < 0 else said[max(0, len(said) - size) :]
    repeated = {}
    if wanted.breaks_repetitions:
        repeated = repetition_penalties(said, wanted)
    changed = []
    for token, value in enumerate(logits.tolist()):
        if generated < wanted.min_tokens and token in ends | wanted.stop_token_ids:
            value = -np.inf
        value += dict(wanted.logit_bias).get(token, 0.0)
        if count := window.count(token):
            factor = wanted.repetition_penalty
            value = value * factor if value <= 0 else value / factor
            value -= count * wanted.frequency_penalty + wanted.presence_penalty
        changed.append(value - repeated.get(token, 0.0))
    return changed


def repetition_penalties(said: list[int], wanted: SamplingParameters) -> dict[int, float]:
    """What DRY takes from logits after `said`, where there are no breakers."""
    last = wanted.dry_penalty_last_n
    said = said if last < 0 else said[max(0, len(said) - last) :]
    longest: dict[int, int] = {}
    for place in range(1, len(said)):
        length = 0
        while length < place and said[place - 1 - length] == said[len(said) - 1 - length]:
            length += 1
        longest[said[place]] = max(longest.get(said[place], 0), length)
    if len(said) <= wanted.dry_allowed_length:
        return {}
    return {
        token: wanted.dry_multiplier * wanted.dry_base ** (length - wanted.dry_allowed_length)
        for token, length in longest.items()
        if length >= wanted.dry_allowed_length
    }
