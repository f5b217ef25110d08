"""What llama.cpp's own samplers leave of the same logits, and take greedily."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.sampling import Sampler, SamplingParameters, SequenceBreakers, StepLogits
from runtime.sampling.rows import Row, kept
from tests.golden import sampler_cases
from tests.golden.sampler_cases import (
    BREAKERS,
    DISTRIBUTIONS,
    GREEDY,
    SAID,
    flat_logits,
    logits,
)

GOLDEN = json.loads(Path(sampler_cases.__file__).with_name("samplers.json").read_text())


def sampler(case: dict[str, Any]) -> Sampler:
    fields = {"top_k": 0, "top_p": 1.0, "seed": 1, **case}
    said = fields.pop("said", SAID)
    longer: dict[int, tuple[tuple[int, ...], ...]] = {}
    breakers = fields.pop("breakers", BREAKERS)
    for head, *tail in filter(lambda tokens: len(tokens) > 1, breakers):
        longer[head] = (*longer.get(head, ()), tuple(tail))
    single = frozenset(tokens[0] for tokens in breakers if len(tokens) == 1)
    return Sampler(SamplingParameters(**fields, breakers=SequenceBreakers(single, longer)), said)


def left(case: dict[str, Any], values: np.ndarray) -> dict[int, float]:
    """The tokens that may be drawn, and their probabilities."""
    row = sampler(case).row(StepLogits(values[np.newaxis]), 0)
    assert isinstance(row, Row)
    tokens, weights = kept(row)
    return dict(zip(tokens.tolist(), (weights / weights.sum()).tolist(), strict=True))


@pytest.mark.parametrize("index", range(len(DISTRIBUTIONS)), ids=lambda i: str(DISTRIBUTIONS[i]))
def test_tokens_and_probabilities_are_those_of_llama_cpp(index: int) -> None:
    for seed, expected in enumerate(GOLDEN["left"][index]):
        found = left(DISTRIBUTIONS[index], logits(seed))
        assert sorted(found) == sorted(token for token, _ in expected)
        assert found == pytest.approx(dict(expected), rel=1e-4, abs=2e-7)


@pytest.mark.parametrize("index", range(len(GREEDY)), ids=lambda i: str(GREEDY[i]))
def test_greedy_tokens_are_those_of_llama_cpp(index: int) -> None:
    greedy = sampler({**GREEDY[index], "temperature": 0.0})
    steps = [StepLogits(flat_logits(step)[np.newaxis]) for step in range(sampler_cases.STEPS)]
    assert [greedy.sample(step, 0) for step in steps] == GOLDEN["taken"][index]
