"""Thoughts that a budget ends: at whole characters, and only while the model thinks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.chat.answer_formats import THINK
from runtime.engine import Engine
from runtime.generation import EngineRequest
from runtime.sampling import SamplingParameters, StepLogits
from runtime.session import Session
from runtime.settings import Settings
from runtime.thought_limit import ThoughtLimit
from runtime.tokenizer import Tokenizer
from tests.held_session import HeldSession


def written(limit: ThoughtLimit, tokenizer: Tokenizer, wanted: str, count: int) -> str:
    """What a model writes that wants to write a text, as far as the limit lets it."""
    own = tokenizer.encode(wanted, add_special=False)
    found: list[int] = []
    while len(found) < count and own:
        forced = limit.forced
        token = own.pop(0) if forced is None else forced
        limit.accept(token)
        found.append(token)
    return tokenizer.decode(found)


@pytest.mark.parametrize("budget", [0, 1, 2, 5])
def test_the_end_mark_comes_in_place_of_further_tokens(tokenizer, budget: int) -> None:
    limit = ThoughtLimit(tokenizer, THINK, begun=True, budget=budget)
    text = written(limit, tokenizer, "a b c d e f g h i j k l m n o p", 40)
    thought, mark, rest = text.partition("</think>")
    assert len(tokenizer.encode(thought, add_special=False)) <= budget
    assert mark
    assert rest
    assert "</think>" not in rest


def test_a_character_is_never_cut(tokenizer) -> None:
    for budget in range(12):
        limit = ThoughtLimit(tokenizer, THINK, begun=True, budget=budget)
        text = written(limit, tokenizer, "é漢字🙂é漢字🙂é漢字🙂", 30)
        assert "\ufffd" not in text.partition("</think>")[0]


def test_what_is_no_thought_has_no_limit(tokenizer) -> None:
    text = "I only say <think> once and go on for long"
    limit = ThoughtLimit(tokenizer, THINK, begun=False, budget=0)
    assert written(limit, tokenizer, text, 200) == text
    text = "<think>hm</think> And then a longer text follows"
    limit = ThoughtLimit(tokenizer, THINK, begun=False, budget=20)
    assert written(limit, tokenizer, text, 200) == text


NEXT, OTHER = 5, 6


@pytest.mark.parametrize(
    ("fields", "penalized"),
    [
        ({"presence_penalty": 2.0}, True),
        ({"frequency_penalty": 2.0, "repeat_last_n": 1}, True),
        ({"repetition_penalty": 9.0}, True),
        ({"presence_penalty": 2.0, "repeat_last_n": 0}, False),
        ({"dry_multiplier": 5.0, "dry_allowed_length": 1}, True),
        ({"min_tokens": 7, "stop_token_ids": frozenset({NEXT})}, False),
        ({"min_tokens": 8, "stop_token_ids": frozenset({NEXT})}, True),
    ],
)
def test_the_sampler_counts_what_a_limit_writes(
    prepared: Path, settings: Settings, tokenizer, fields: dict[str, Any], penalized: bool
) -> None:
    """The mark's last token is the likeliest after it, then another; or it ends the answer."""
    mark = tokenizer.encode("</think>", add_special=False)
    assert len(mark) == 7
    likeliest = NEXT if {"min_tokens", "dry_multiplier"} & set(fields) else mark[-1]
    row = np.zeros(tokenizer.vocabulary_size, np.float32)
    row[[likeliest, OTHER]] = (3.0, 2.0)
    session = HeldSession(Session(prepared, settings=settings))
    session.fault = lambda inputs, compute: StepLogits(np.stack([row] * len(inputs.logit_rows)))
    engine = Engine(session, end_of_generation=frozenset(), settings=settings)
    engine.start()
    try:
        request = EngineRequest(
            (mark[-1] if likeliest == NEXT else 1, NEXT, 2),
            SamplingParameters(temperature=0.0, **fields),
            max_tokens=len(mark) + 1,
            thought_limit=ThoughtLimit(tokenizer, THINK, begun=True, budget=0),
        )
        generation = engine.submit_all((request,)).each[0]
        assert generation.wait(30.0)
        assert generation.tokens == (*mark, OTHER if penalized else likeliest)
    finally:
        engine.stop()
