"""Biases, penalties, bans and min-p against straightforward definitions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sampling import Sampler, SamplingParameters, StepLogits

SIZE = 12


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32) * 3


def defined(
    logits: np.ndarray, said: list[int], wanted: SamplingParameters, least: int, ends: set[int]
) -> list[float]:
    """The changed logits of a row, token by token, after `said` of which `least` are generated."""
    size = wanted.repeat_last_n
    window = said if size < 0 else said[max(0, len(said) - size) :]
    changed = []
    for token, value in enumerate(logits.tolist()):
        if least < wanted.min_tokens and token in ends | wanted.stop_token_ids:
            value = -np.inf
        value += dict(wanted.logit_bias).get(token, 0.0)
        if count := window.count(token):
            factor = wanted.repetition_penalty
            value = value * factor if value <= 0 else value / factor
            value -= count * wanted.frequency_penalty + wanted.presence_penalty
        changed.append(value)
    return changed


@given(
    st.fixed_dictionaries(
        {
            "repetition_penalty": st.floats(0.5, 2),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
            "repeat_last_n": st.integers(-1, 6),
            "min_tokens": st.integers(0, 4),
            "logit_bias": st.dictionaries(st.integers(0, SIZE - 1), st.floats(-9, 9)).map(
                lambda biases: tuple(biases.items())
            ),
            "stop_token_ids": st.frozensets(st.integers(0, SIZE - 1), max_size=3),
        }
    ),
    st.lists(st.integers(0, SIZE - 1), max_size=9),
    st.integers(0, 99),
)
def test_greedy_tokens_are_the_likeliest_by_definition(
    fields: dict[str, Any], prompt: list[int], seed: int
) -> None:
    wanted = SamplingParameters(temperature=0.0, **fields)
    sampler = Sampler(wanted, prompt, frozenset({0}))
    logits = rows(seed, 8)
    said = list(prompt)
    for at in range(8):
        changed = defined(logits[at], said, wanted, at, {0})
        token = sampler.sample(StepLogits(logits), at)
        # What differs by less than float32 rounds may stand for each other.
        assert changed[token] >= max(changed) - 1e-4
        said.append(token)
    assert logits.tolist() == rows(seed, 8).tolist()  # the step's own logits stay as they are


@pytest.mark.parametrize("min_p", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("top_k", [0, 6])
def test_min_p_draws_follow_their_definition(min_p: float, temperature: float, top_k: int) -> None:
    """Chi-square of 20,000 draws with a fixed seed."""
    logits = rows(3, 1)
    weights = np.exp((logits[0] - logits.max()).astype(np.float64))
    kept = weights >= min_p
    expected = np.where(kept, weights ** (1 / temperature), 0.0)
    expected[np.argsort(-weights)[top_k or SIZE :]] = 0.0
    expected *= 20_000 / expected.sum()
    wanted = SamplingParameters(temperature, top_k, 1.0, seed=4, min_p=min_p)
    sampler, step = Sampler(wanted), StepLogits(logits)
    seen = np.bincount([sampler.sample(step, 0) for _ in range(20_000)], minlength=SIZE)
    possible = expected > 0
    assert seen[~possible].sum() == 0
    chi = float((((seen - expected) ** 2)[possible] / expected[possible]).sum())
    assert chi < 40  # eleven degrees of freedom exceed 35 once in 4,000 times
