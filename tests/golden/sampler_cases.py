"""The cases of samplers.json: logits, what was said before, and the parameters of each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 64
"""Logits of a row."""
STEPS = 40
"""Tokens that are taken greedily, one after the other."""
SAID = [3, 17, 4, 9, 3, 17, 4, 25, 9, 9, 40, 3, 17, 4]
BREAKERS = [[9], [40, 3]]
"""Of DRY, as tokens."""

PENALTIES = {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.2}
DRY = {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 1, "dry_penalty_last_n": 64}
DISTRIBUTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.7},
    {"temperature": 1.5},
    {"top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"typical_p": 0.6},
    {"typical_p": 0.2},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 0.4, "top_k": 20},
    {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"xtc_probability": 1.0, "xtc_threshold": 0.4},
    {"temperature": 0.8, "dynatemp_range": 0.5, "dynatemp_exponent": 1.0},
    {"temperature": 1.0, "dynatemp_range": 0.9, "dynatemp_exponent": 2.5, "top_k": 10},
    {"repetition_penalty": 1.3, "repeat_last_n": 8},
    {"frequency_penalty": 0.7, "repeat_last_n": 14},
    {"presence_penalty": -0.5},
    PENALTIES,
    DRY,
    {**DRY, "dry_allowed_length": 2, "dry_base": 3.0},
    {"top_k": 30, "typical_p": 0.9, "top_p": 0.9, "min_p": 0.05, "temperature": 0.6},
    {**PENALTIES, **DRY, "top_k": 40, "top_p": 0.95, "min_p": 0.02, "temperature": 1.2},
    {
        **PENALTIES,
        **DRY,
        "top_k": 30,
        "typical_p": 0.95,
        "top_p": 0.97,
        "min_p": 0.01,
        "xtc_probability": 1.0,
        "xtc_threshold": 0.1,
        "temperature": 0.9,
        "dynatemp_range": 0.4,
    },
)
REPEATED = [5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6, 7]
GREEDY: tuple[dict[str, Any], ...] = (
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "repeat_last_n": 5},
    {"frequency_penalty": 0.9, "repeat_last_n": 20},
    PENALTIES,
    DRY,
    {**DRY, "dry_multiplier": 3.0, "dry_penalty_last_n": 12},
    {**PENALTIES, **DRY},
    *(
        {**DRY, "breakers": breakers}
        for breakers in (
            [[60]],
            [[17]],
            [[3, 17], [4, 25]],
            [[3, 17, 4]],
            [[9], [9, 9]],
            [[3], [3, 17], [17, 4]],
            [[17, 4, 9], [4, 9], [25]],
            [[11, 12], [12, 11], [63]],
        )
    ),
    *({**DRY, "dry_allowed_length": length} for length in (0, 2, 3, 5, 40)),
    *({**DRY, "dry_penalty_last_n": last} for last in (1, 2, 3, 5, 14, 15, 1000)),
    *({**DRY, "dry_base": base, "dry_multiplier": 2.0} for base in (1.0, 1.000001, 4.0, 100.0)),
    *(
        {**DRY, "said": said, "breakers": breakers}
        for said in ([], [5], REPEATED, REPEATED * 6)
        for breakers in ([[8, 9]], [[6], [7, 8]])
    ),
    *({"xtc_probability": 1.0, "xtc_threshold": likely} for likely in (0.01, 0.03, 0.04, 0.5)),
    {**PENALTIES, **DRY, "xtc_probability": 1.0, "xtc_threshold": 0.03, "top_k": 20},
    {**DRY, "xtc_probability": 1.0, "xtc_threshold": 0.02, "top_p": 0.9, "min_p": 0.2},
)
"""`said` and `breakers` stand for SAID and BREAKERS where a case has them."""


def logits(seed: int) -> NDArray[np.float32]:
    """Logits [SIZE], no two of them equal."""
    spread = (np.arange(SIZE) * 379 + seed * 211) % 1009
    values: NDArray[np.float32] = (spread / 112.5 - 4.5).astype(np.float32)
    return values


def flat_logits(step: int) -> NDArray[np.float32]:
    """Logits [SIZE] of a step of a sequence, so close that penalties choose among them."""
    values: NDArray[np.float32] = logits(step % 4) / np.float32(4)
    return values
