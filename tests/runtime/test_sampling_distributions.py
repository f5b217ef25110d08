"""Chi-square tests of what is drawn against the plain definition, for every sampler and together.

Seeds are fixed, so a test gives the same every time. Each also holds the same draws against the
definition with a slightly different parameter, which must not pass.
"""

from typing import Any

import numpy as np
import pytest

from runtime.sampling import Sampler, SamplingParameters, StepLogits, sample
from tests.runtime.sampling_definition import shares

SIZE = 300
DRAWS = 20_000
FEWEST = 8.0
"""Draws that are expected of a cell; tokens of which fewer are expected are one cell."""
OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
SAID = [7, 3, 9, 40, 7, 3, 9, 41, 5, 5, 7, 3]
BIASES = ((1, 2.0), (3, 1.0), (250, 3.0), (9, -1.0))
PENALTIES = {"repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.2}
DRY = {"dry_multiplier": 0.8, "dry_allowed_length": 1}
ALL = {
    **{**PENALTIES, **DRY, "logit_bias": BIASES, "temperature": 1.3, "top_k": 60},
    **{"top_p": 0.97, "typical_p": 0.95, "min_p": 0.01, "top_n_sigma": 3.0},
    **{"xtc_probability": 0.4, "xtc_threshold": 0.1, "dynatemp_range": 0.3},
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temperature": ({"temperature": 0.7}, {"temperature": 0.8}),
    "temperature by entropy": ({"dynatemp_range": 0.5}, {"dynatemp_range": 0.9}),
    "its exponent": (
        {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0},
        {"dynatemp_exponent": 1.0},
    ),
    "top_k": ({"top_k": 12}, {"top_k": 13}),
    "top_p": ({"top_p": 0.8}, {"top_p": 0.82}),
    "min_p": ({"min_p": 0.05}, {"min_p": 0.06}),
    "typical_p": ({"typical_p": 0.6}, {"typical_p": 0.7}),
    "top_n_sigma": ({"top_n_sigma": 1.2}, {"top_n_sigma": 1.25}),
    "xtc": ({"xtc_probability": 0.5, "xtc_threshold": 0.08}, {"xtc_probability": 0.7}),
    "its threshold": ({"xtc_probability": 1.0, "xtc_threshold": 0.08}, {"xtc_threshold": 0.12}),
    "repetition penalty": ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.7}),
    "presence penalty": ({"presence_penalty": 1.0}, {"presence_penalty": 1.5}),
    "frequency penalty": ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.8}),
    "their window": ({"presence_penalty": 1.0, "repeat_last_n": 4}, {"repeat_last_n": 5}),
    "dry": (DRY, {"dry_multiplier": 1.2}),
    "its base": ({**DRY, "dry_base": 2.0}, {"dry_base": 3.0}),
    "logit_bias": ({"logit_bias": BIASES}, {"logit_bias": ((1, 2.5), *BIASES[1:])}),
    "top_k and top_p": ({"top_k": 40, "top_p": 0.9, "temperature": 0.8}, {"top_p": 0.92}),
    "penalties and min_p": ({**PENALTIES, "min_p": 0.05}, {"min_p": 0.06}),
    "another order": (
        {"top_p": 0.8, "min_p": 0.1, "samplers": ("temperature", "min_p", "top_p")},
        {"samplers": ("min_p", "top_p", "temperature"), "temperature": 1.2},
    ),
    "all": (ALL, {"temperature": 1.6}),
    "all but top_k": ({**ALL, "top_k": 0}, {"min_p": 0.02}),
}


def logits() -> np.ndarray:
    """Some likely tokens, and many that are together as likely as one of them."""
    values = np.random.default_rng(11).standard_normal(SIZE).astype(np.float32) * 2
    values[[3, 7, 9, 40, 41]] = (4.0, 5.5, 5.0, 4.5, 3.5)
    return values


def chi_square(seen: np.ndarray, expected: np.ndarray) -> float:
    """How far counts are from the expected ones: the number of standard deviations.

    The cube root of chi-square over its degrees of freedom is about normal (Wilson and Hilferty).
    """
    if seen[expected == 0].sum():
        return np.inf
    is_rare = expected < FEWEST
    cells = [(seen[is_rare].sum(), expected[is_rare].sum())] if expected[is_rare].sum() else []
    cells += list(zip(seen[~is_rare], expected[~is_rare], strict=True))
    free = max(1, len(cells) - 1)
    chi = sum((count - mean) ** 2 / mean for count, mean in cells)
    spread = 2 / (9 * free)
    return float(((chi / free) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_their_definition(name: str) -> None:
    right, wrong = CASES[name]
    wanted = SamplingParameters(**{**OFF, **right}, seed=4)
    row = logits()
    sampler = Sampler(wanted, SAID)
    tokens = sample([(sampler, StepLogits(row[np.newaxis]), 0)] * DRAWS)
    seen = np.bincount(np.array(tokens), minlength=SIZE)
    assert chi_square(seen, DRAWS * shares(row, wanted, SAID)) < 4
    mistaken = SamplingParameters(**{**OFF, **right, **wrong})
    assert chi_square(seen, DRAWS * shares(row, mistaken, SAID)) > 6
