"""Thoughts that a budget ends: at whole characters, and only while the model thinks."""

import pytest

from runtime.chat.answer_formats import THINK
from runtime.thought_limit import ThoughtLimit
from runtime.tokenizer import Tokenizer


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
