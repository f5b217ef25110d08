"""Biases, penalties, bans and min-p against straightforward definitions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sampling import (
    BreakerTable,
    Sampler,
    SamplingParameters,
    SequenceBreakers,
    StepLogits,
    sample,
)
from runtime.sampling.breakers import NO_BREAKERS
from runtime.sampling.repetitions import Repetitions
from runtime.tokenizer import Tokenizer
from tests.runtime.sampling_definition import repetition_penalties

SIZE = 12


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32) * 3


def defined(
    logits: np.ndarray, said: list[int], wanted: SamplingParameters, least: int, ends: set[int]
) -> list[float]:
    """The changed logits of a row, token by token, after `said` of which `least` are generated."""
    size = wanted.repeat_last_n
    window = said if size < 0 else said[max(0, len(said) - size) :]
    repeated = {}
    if wanted.breaks_repetitions:
        repeated = repetition_penalties(said, wanted)
    changed = []
    for token, value in enumerate(logits.tolist()):
        if least < wanted.min_tokens and token in ends | wanted.stop_token_ids:
            value = -np.inf
        value += dict(wanted.logit_bias).get(token, 0.0)
        if count := window.count(token):
            factor = wanted.repetition_penalty
            value = value * factor if value <= 0 else value / factor
            value -= count * wanted.frequency_penalty + wanted.presence_penalty
        changed.append(value - repeated.get(token, 0.0))
    return changed


@given(
    st.fixed_dictionaries(
        {
            "repetition_penalty": st.floats(0.5, 2),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
            "repeat_last_n": st.integers(-1, 6),
            "min_tokens": st.integers(0, 4),
            "dry_multiplier": st.sampled_from((0.0, 0.5, 3.0)),
            "dry_base": st.floats(1.0, 3.0),
            "dry_allowed_length": st.integers(0, 3),
            "dry_penalty_last_n": st.integers(-1, 9),
            "logit_bias": st.dictionaries(st.integers(0, SIZE - 1), st.floats(-9, 9)).map(
                lambda biases: tuple(biases.items())
            ),
            "stop_token_ids": st.frozensets(st.integers(0, SIZE - 1), max_size=3),
        }
    ),
    st.lists(st.integers(0, SIZE - 1) | st.integers(0, 1), max_size=12),
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
    tokens = sample([(Sampler(wanted), StepLogits(logits), 0)] * 20_000)
    seen = np.bincount(np.array(tokens), minlength=SIZE)
    possible = expected > 0
    assert seen[~possible].sum() == 0
    chi = float((((seen - expected) ** 2)[possible] / expected[possible]).sum())
    assert chi < 40  # eleven degrees of freedom exceed 35 once in 4,000 times


def penalized(said: list[int], breakers: SequenceBreakers = NO_BREAKERS) -> dict[int, float]:
    wanted = SamplingParameters(dry_multiplier=1.0, dry_base=2.0, breakers=breakers)
    tokens, amounts = Repetitions(wanted, said).penalties()
    return dict(zip(tokens.tolist(), amounts.tolist(), strict=True))


def test_what_goes_on_with_a_repetition_is_penalized_by_its_length() -> None:
    assert penalized([1, 2, 3, 9, 1, 2]) == {3: 1.0}
    assert penalized([1, 2, 3, 4, 9, 1, 2, 3]) == {4: 2.0}
    assert penalized([1, 2, 3, 9]) == {}


def test_no_repetition_reaches_over_a_breaker_or_is_ended_by_one() -> None:
    said = [1, 2, 3, 4, 9, 1, 2, 3]
    assert penalized(said, SequenceBreakers(frozenset({1}))) == {4: 1.0}
    assert penalized(said, SequenceBreakers(frozenset({2}))) == {}
    assert penalized(said, SequenceBreakers(frozenset({4}))) == {}
    assert penalized(said, SequenceBreakers(longer={9: ((1,),)})) == {4: 1.0}
    assert penalized(said, SequenceBreakers(longer={9: ((2,),)})) == {4: 2.0}


def test_breakers_are_found_in_tokens_that_hold_them_or_begin_them(tokenizer: Tokenizer) -> None:
    found = BreakerTable(tokenizer).of(("\n", "d: "))
    pieces = {token: tokenizer.token_piece(token) for token in range(tokenizer.vocabulary_size)}
    assert found.single == {token for token, piece in pieces.items() if b"\n" in piece}
    assert found.single
    begun = {token for token, piece in pieces.items() if piece.endswith(b"d")}
    assert set(found.longer) >= begun
    assert tuple(tokenizer.encode(": ", add_special=False)) in found.longer[min(begun)]
