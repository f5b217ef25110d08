"""Whether an engine generates llama.cpp's text."""

from typing import Any

from runtime.engine import Engine
from runtime.sampling import SamplingParameters
from tests.waiting import SECONDS

NEAR_TIE = 0.35
"""Margin of two logits below which rounding activations to 8 bits may swap them.

Both programs round so. On a page of text the difference between their best two logits differs by
less than this at 99 of 100 positions.
"""


def agree(engine: Engine, entry: dict[str, Any], count: int | None = None) -> None:
    """Assert that the first `count` greedy tokens of an entry of greedy.json are the engine's.

    Past a near-tie that went the other way, it goes on with llama.cpp's text.
    """
    expected, margins = entry["tokens"][:count], entry["margins"]
    agreed = 0
    while agreed < len(expected):
        prompt = entry["prompt_tokens"] + expected[:agreed]
        greedy = SamplingParameters(temperature=0.0)
        generation = engine.submit(prompt, greedy, len(expected) - agreed)
        assert generation.wait(SECONDS)
        ours = generation.tokens
        while ours and agreed < len(expected) and ours[0] == expected[agreed]:
            ours, agreed = ours[1:], agreed + 1
        if agreed < len(expected):
            assert margins[agreed] < NEAR_TIE, f"token {agreed}"
            agreed += 1
