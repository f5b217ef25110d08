"""Every kind of tokenizer and every split against the tokens that llama.cpp gave for the same.

tests/golden/make_tokens.py writes what is expected. Where llama.cpp knows less of Unicode than the
expressions of the models' own tokenizers, these decide: such cases stand here by themselves.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from runtime.tokenizer.splits import SPLIT_RULES
from tests.models import Vocabulary, write_tiny_llama
from tests.tokenizer_cases import TEXTS, byte_level, unigram, vocabularies, word_piece

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden", "tokens.json").read_text())
EXPECTED = {name: entry["tokens"] for entry in GOLDEN for name in entry["names"]}
VOCABULARIES = dict(vocabularies())

Make = Callable[[Vocabulary], Tokenizer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def tokenizer(vocabulary: Vocabulary) -> Tokenizer:
        path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, layers=1)
        return Tokenizer.from_gguf(GGUFFile.open(path))

    return tokenizer


def pieces(pre: str, text: str) -> list[str]:
    """The words that a split leaves."""
    splits = [
        pre_tokenizers.Split(Regex(expression), "isolated")
        for expression in SPLIT_RULES[pre].expressions
    ]
    return [piece for piece, _ in pre_tokenizers.Sequence(splits).pre_tokenize_str(text)]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_gives_the_tokens_of_llama_cpp(make: Make, name: str) -> None:
    tokenizer = make(VOCABULARIES[name])
    assert [tokenizer.encode(text, parse_special=True) for text in TEXTS] == EXPECTED[name]


@pytest.mark.parametrize("text", ["0", " ", "\n", "a", "é", "\u0301", "漢", "!", "🦙", " \n", "0 "])
def test_no_split_takes_ever_longer_over_a_monotonous_text(text: str) -> None:
    repeated = text * (20_000 // len(text)) + "x"
    # An expression that looks ahead from every place takes minutes for this.
    for pre in {rule: pre for pre, rule in SPLIT_RULES.items()}.values():
        assert "".join(pieces(pre, repeated)) == repeated


@given(text=st.text(alphabet=[*" \t\n\ra1!", "\u00a0"]), spaces=st.integers(0, 1100))
def test_white_space_in_powers_of_two_ends_at_line_ends_as_written_without_looking_back(
    text: str, spaces: int
) -> None:
    text = text.replace("\t", " " * spaces, 1)
    plain = SPLIT_RULES["jais-2"].expressions[0].replace(r"(?<![^\S\r\n])", "")
    assert plain != SPLIT_RULES["jais-2"].expressions[0]
    words = pre_tokenizers.Split(Regex(plain), "isolated").pre_tokenize_str(text)
    assert pieces("jais-2", text) == [word for word, _ in words]


def test_a_word_ends_where_its_case_changes_in_every_script() -> None:
    for pre in ("gpt-4o", "tekken", "kimi-k2", "youtu", "tiny_aya"):
        assert pieces(pre, "camelCase приветМир") == ["camel", "Case", " привет", "Мир"]


def test_digits_are_counted_from_the_right_only_where_a_word_ends() -> None:
    assert pieces("tiny_aya", "1234567 12345abc") == ["1", "234", "567", " ", "123", "45", "abc"]
    assert pieces("afmoe", "1234567abc") == ["1", "234", "567", "abc"]
    assert pieces("superbpe", "a 1234567 b") == ["a ", "1", "234", "567", " b"]


def test_combining_marks_belong_to_the_word_before_a_contraction() -> None:
    assert pieces("gpt-4o", "e\u0301're") == ["e\u0301're"]


def test_word_piece_is_framed_and_gives_up_on_whole_words(make: Make) -> None:
    tokenizer = make(word_piece())
    first, *inside, last = tokenizer.encode("Hello HELLO wörld zürich☃ x")
    assert (first, last) == (2, 3)
    texts = [tokenizer.token_bytes(token).decode() for token in inside]
    assert texts == [" hello", " hello", " world", "", " x"]
    assert inside[3] == 1
    assert tokenizer.decode(tokenizer.encode("hello world")) == "hello world"


def test_word_piece_keeps_accents_and_case_where_the_file_says_so(tmp_path: Path) -> None:
    vocabulary = replace(word_piece(), tokens=[*word_piece().tokens, "▁É"])
    vocabulary = replace(vocabulary, types=[*vocabulary.types, vocabulary.types[-1]])
    path = write_tiny_llama(
        tmp_path / "cased.gguf",
        vocabulary=vocabulary,
        metadata={"tokenizer.ggml.normalizer.lowercase": False},
    )
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    assert tokenizer.encode("É", add_special=False) == [len(vocabulary.tokens) - 1]


def test_typed_text_never_becomes_a_control_token_of_any_kind(make: Make) -> None:
    for vocabulary in (byte_level(), word_piece(), unigram()):
        tokenizer = make(vocabulary)
        control = {token for token, kind in enumerate(vocabulary.types) if kind == 3}
        names = [vocabulary.tokens[token] for token in control]
        for text in (*names, "".join(names), " ".join(names)):
            assert not control & set(tokenizer.encode(text, add_special=False))
            parsed = tokenizer.encode(text, add_special=False, parse_special=True)
            assert control & set(parsed)
