"""Texts in pieces: they give the tokens of the whole, and no text makes the work grow faster."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf import TokenType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer, pieces
from runtime.tokenizer.pieces import SpecialTokens, prompt_matches
from runtime.tokenizer.splits import SPLIT_RULES
from tests.models import Vocabulary, byte_level_vocabulary, write_tiny_llama
from tests.tokenizer_cases import MONOTONOUS, TEXTS, vocabularies

LONG = 20_000
SIGNS = st.text(alphabet="ab<|>", min_size=1, max_size=5)


def kinds() -> dict[str, Vocabulary]:
    """A vocabulary of each kind of tokenizer and of each split."""
    distinct = {(v.model, SPLIT_RULES.get(v.pre)): v for _, v in vocabularies()}
    return {f"{v.model} {v.pre}": v for v in distinct.values()}


@pytest.fixture(scope="module", params=kinds())
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    path = tmp_path_factory.mktemp("kind") / "tiny.gguf"
    write_tiny_llama(path, vocabulary=kinds()[request.param], layers=1)
    return Tokenizer.from_gguf(GGUFFile.open(path))


LINES = st.sampled_from(
    [
        *TEXTS,
        *("a", "Bc", "it's", "9", "12", ".", "(x)", "漢字", "é", "🦙", "\t", " ", "\r", "'", "s"),
    ]
)


def test_chunks_give_the_tokens_of_the_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = 0

    @settings(max_examples=25)
    @example(parts=[("it is", "\n"), ("so", "\n")])
    @given(parts=st.lists(st.tuples(LINES, st.sampled_from(["\n", "\n", "\n\n", " \n", ""]))))
    def check(parts: list[tuple[str, str]]) -> None:
        nonlocal cuts
        text = "".join(line + end for line, end in parts)
        monkeypatch.setattr(pieces, "CHUNK_CHARACTERS", len(text))
        assert list(pieces.chunks(text)) == [text]
        whole = tokenizer.encode(text)
        monkeypatch.setattr(pieces, "CHUNK_CHARACTERS", 1)
        chunks = list(pieces.chunks(text))
        assert "".join(chunks) == text
        assert tokenizer.encode(text) == whole
        cuts += len(chunks) - 1

    check()
    assert cuts > 0


@pytest.mark.timeout(60)
def test_long_monotonous_texts_are_encoded(tokenizer: Tokenizer) -> None:
    for text in MONOTONOUS:
        repeated = text * (LONG // 2)
        assert len(tokenizer.encode(repeated, parse_special=True)) <= 4 * len(repeated) + 2


@pytest.mark.timeout(60)
def test_the_beginnings_of_thousands_of_names_are_looked_for_at_once() -> None:
    names = {f"<unused{number}>": number for number in range(6000)}
    special = SpecialTokens(names)
    for text in ("<unused", "<", "<unused1", " "):
        assert list(special.split(text * LONG)) == [text * LONG]
    assert list(special.split("a<unused12>b")) == ["a", 12, "b"]


@given(names=st.sets(SIGNS, max_size=8), text=st.text(alphabet="ab<|>", max_size=30))
def test_the_longest_name_is_found_and_the_leftmost(names: set[str], text: str) -> None:
    ids = {name: token for token, name in enumerate(sorted(names))}
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
    expected: list[int | str] = []
    place = 0
    for match in re.finditer(longest_first, text):
        expected += [*filter(None, [text[place : match.start()]]), ids[match[0]]]
        place = match.end()
    assert list(SpecialTokens(ids).split(text)) == [*expected, *filter(None, [text[place:]])]


def test_names_that_begin_each_other_hundreds_of_times_are_found() -> None:
    ids = {"a" * length: length for length in range(1, 500)}
    assert list(SpecialTokens(ids).split("a" * 800)) == [499, 301]


@given(
    text=st.text(alphabet="ab<|>", max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=6),
    typed=st.sets(SIGNS, max_size=3),
    reserved=st.sets(SIGNS, max_size=3),
)
def test_reserved_names_are_found_inside_their_spans_alone(
    text: str, cuts: list[int], typed: set[str], reserved: set[str]
) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts})
    own = list(zip(places[::2], places[1::2], strict=False))
    found = prompt_matches(
        text,
        own,
        SpecialTokens({name: 0 for name in typed}),
        SpecialTokens({name: 1 for name in reserved}),
    )
    assert [m.span() for m in found] == list(defined_matches(text, own, typed, reserved))


def defined_matches(
    text: str, own: list[tuple[int, int]], typed: set[str], reserved: set[str]
) -> Iterator[tuple[int, int]]:
    """The definition, place by place."""
    place = 0
    while place < len(text):
        ends = [
            place + len(name)
            for name in typed | reserved
            if text.startswith(name, place)
            and (
                name in typed
                or any(start <= place and place + len(name) <= end for start, end in own)
            )
        ]
        if ends:
            yield place, max(ends)
        place = max(ends, default=place + 1)


@pytest.mark.timeout(60)
def test_a_prompt_of_many_spans_is_encoded(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=byte_level_vocabulary(), layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    turn = "<|im_start|>a<|im_end|>"
    own = [(start, start + 12) for start in range(0, len(turn) * LONG, len(turn))]
    tokens = tokenizer.encode_prompt(turn * LONG, own)
    assert tokens.count(1) == LONG
    assert 2 not in tokens


class TooMany(Exception):
    pass


def test_the_watcher_hears_of_tokens_as_they_come_and_may_end_the_work(tmp_path: Path) -> None:
    vocabulary = byte_level_vocabulary()
    path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    heard: list[int] = []

    def watch(tokens: int) -> None:
        heard.append(tokens)
        if tokens > 100_000:
            raise TooMany

    text = "hello\n" * 15_000
    tokens = tokenizer.encode(text, watch=watch)
    assert 1 < len(heard) < 10
    assert heard[0] == len(text) // max(map(len, vocabulary.tokens)) <= heard[-1] == len(tokens)
    with pytest.raises(TooMany):
        tokenizer.encode("h!\n" * 100_000, watch=watch)
    assert heard[-1] < 300_000
    with pytest.raises(TooMany):
        tokenizer.encode(text * 100, watch=watch)
    assert heard[-1] == len(text) * 100 // max(map(len, vocabulary.tokens))


def test_no_token_of_a_text_is_longer_than_the_bound_says(tokenizer: Tokenizer) -> None:
    heard: list[int] = []
    for text in TEXTS:
        heard.clear()
        tokens = tokenizer.encode(text, parse_special=True, watch=heard.append)
        assert all(count <= len(tokens) for count in heard)


def test_a_vocabulary_whose_tokens_span_lines_is_not_cut(tmp_path: Path) -> None:
    vocabulary = byte_level_vocabulary(pre="superbpe", words=["xĊa"])
    assert TokenType.NORMAL in vocabulary.types
    path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    text = "x\na" * pieces.CHUNK_CHARACTERS
    assert tokenizer.encode(text) == tokenizer.encode("x\na") * pieces.CHUNK_CHARACTERS
