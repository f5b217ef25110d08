"""A text ends before its first stop, however it is split into pieces."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stops import StopMatcher, Symbol


def cut(text: str, stops: list[str]) -> str:
    """The definition: the text before the stop string that is complete first, then longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


def pieces(matcher: StopMatcher, *texts: str) -> list[str]:
    return [*(matcher.feed(text) for text in texts), matcher.flush()]


def test_text_before_a_stop_string_is_given_and_nothing_after_it() -> None:
    matcher = StopMatcher(["\n\n", "END"])
    assert pieces(matcher, "one", " two\n\nthree", "four") == ["one", " two", "", ""]
    assert matcher.matched


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_known() -> None:
    matcher = StopMatcher(["</end>"])
    assert pieces(matcher, "a <", "/", "en", "tity") == ["a ", "", "", "</entity", ""]
    assert pieces(matcher, "b </en") == ["b ", "</en"]
    assert not matcher.matched
    assert pieces(matcher, "c</", "e", "nd> d") == ["c", "", "", ""]
    assert matcher.matched


def test_a_false_start_may_hold_the_true_one() -> None:
    assert pieces(StopMatcher(["aab"]), "xa", "a", "a", "b") == ["x", "", "a", "", ""]


def test_the_stop_string_that_is_complete_first_ends_the_text() -> None:
    assert pieces(StopMatcher(["abcd", "bc"]), "xabcd") == ["xa", ""]
    assert pieces(StopMatcher(["bc", "abc"]), "xabcd") == ["x", ""]


@given(
    texts=st.lists(st.text("ab\n", max_size=6), max_size=12),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4),
)
def test_where_the_pieces_part_does_not_matter(texts: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    given_out = pieces(matcher, *texts)
    whole = "".join(texts)
    assert "".join(given_out) == cut(whole, stops)
    assert matcher.matched == any(stop in whole for stop in stops)
    # Held text is never more than a stop string's beginning.
    longest = max(map(len, stops), default=1)
    assert len(given_out[-1]) < longest


SYMBOLS: st.SearchStrategy[Symbol] = st.sampled_from(["a", "b", 1, 2])


@given(
    symbols=st.lists(SYMBOLS, max_size=30),
    stops=st.lists(st.lists(SYMBOLS, min_size=1, max_size=5), max_size=4),
    parts=st.lists(st.integers(0, 30), max_size=5),
)
def test_control_tokens_take_part_and_add_no_text(
    symbols: list[Symbol], stops: list[list[Symbol]], parts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    places = [0, *sorted(parts), len(symbols)]
    given_out = [matcher.feed(symbols[a:b]) for a, b in pairwise(places)]
    written = "".join(given_out) + matcher.flush()
    letters = {"a": "a", "b": "b", 1: "x", 2: "y"}

    def spelled(part: Sequence[Symbol]) -> str:
        return "".join(letters[symbol] for symbol in part)

    whole = cut(spelled(symbols), [spelled(stop) for stop in stops])
    assert written == whole.replace("x", "").replace("y", "")


@pytest.mark.timeout(60)
def test_thousands_of_stops_and_long_ones_are_looked_for_at_once() -> None:
    stops = ["a" * 5000 + "b", *(f"stop {number}" for number in range(2000))]
    matcher = StopMatcher(stops)
    assert [matcher.feed("a") for _ in range(5000)] == [""] * 5000
    assert [matcher.feed("a") for _ in range(20_000)] == ["a"] * 20_000
    assert matcher.feed("c") == "a" * 5000 + "c"
    assert matcher.feed("x stop 1234") == "x "
    assert matcher.matched
