"""Biases, penalties, bans and min-p against straightforward definitions."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.sampling import (
    BreakerTable,
    Sampler,
    SamplingParameters,
    SequenceBreakers,
    StepLogits,
)
from runtime.sampling.breakers import NO_BREAKERS
from runtime.sampling.rows import Row, kept
from runtime.tokenizer import Tokenizer
from tests.runtime.sampling_definition import changed_logits

SIZE = 12


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32) * 3


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
        changed = changed_logits(logits[at], said, wanted, at, {0})
        token = sampler.sample(StepLogits(logits), at)
        # What differs by less than float32 rounds may stand for each other.
        assert changed[token] >= max(changed) - 1e-4
        said.append(token)
    assert logits.tolist() == rows(seed, 8).tolist()  # the step's own logits stay as they are


def penalized(said: list[int], breakers: SequenceBreakers = NO_BREAKERS) -> dict[int, float]:
    wanted = SamplingParameters(
        dry_multiplier=1.0, dry_base=2.0, top_k=0, top_p=1.0, breakers=breakers
    )
    logits = StepLogits(np.zeros((1, SIZE), np.float32))
    row = Sampler(wanted, said).row(logits, 0)
    assert isinstance(row, Row)
    tokens, weights = kept(row)
    taken = np.log(weights).round(4)
    found = zip(tokens.tolist(), taken.tolist(), strict=True)
    return {token: -amount for token, amount in found if amount}


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
