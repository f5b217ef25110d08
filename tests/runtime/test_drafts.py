from hypothesis import given
from hypothesis import strategies as st

from runtime.drafts import MAX_DRAFT, PromptLookup


def test_what_followed_the_same_tokens_before_is_guessed() -> None:
    assert PromptLookup().propose([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 8) == (4, 5, 6)


def test_the_latest_occurrence_counts() -> None:
    assert PromptLookup().propose([1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3], 1) == (9,)


def test_nothing_is_guessed_where_the_tokens_never_stood_together() -> None:
    assert PromptLookup().propose([1, 2, 3, 4, 5], 8) == ()
    assert PromptLookup().propose([1], 8) == ()


def test_guesses_that_hold_grow_longer_and_failing_ones_shorter() -> None:
    drafts, tokens = PromptLookup(), [1, 2, 3, *range(10, 30), 1, 2, 3]
    assert len(drafts.propose(tokens, 100)) == 3
    drafts.settle(3, 3)
    assert len(drafts.propose(tokens, 100)) == MAX_DRAFT
    drafts.settle(MAX_DRAFT, 2)
    assert len(drafts.propose(tokens, 100)) == 2


def test_after_guesses_that_fail_whole_there_are_ever_longer_pauses() -> None:
    drafts, tokens = PromptLookup(), [1, 2, 3, 4, 1, 2, 3]
    pauses = []
    for _ in range(4):
        waited = 0
        while not (guess := drafts.propose(tokens, 8)):
            waited += 1
        pauses.append(waited)
        drafts.settle(len(guess), 0)
    assert pauses == [0, 2, 4, 8]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 10))
def test_a_guess_is_a_stretch_of_the_text_behind_the_same_tokens(
    tokens: list[int], most: int
) -> None:
    guess = PromptLookup().propose(tokens, most)
    assert len(guess) <= most
    if guess:
        wanted = [*tokens[-3:], *guess]
        assert any(tokens[i : i + len(wanted)] == wanted for i in range(len(tokens)))
