"""The tokenizer on tiny vocabularies: what is merged, what is special, what is refused."""

import contextlib
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from gguf import TokenType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer, special
from tests.models import (
    Vocabulary,
    byte_level_vocabulary,
    sentencepiece_vocabulary,
    write_tiny_llama,
)


@pytest.fixture
def make(tmp_path: Path) -> "Maker":
    return Maker(tmp_path)


class Maker:
    """Writes a model with a vocabulary and reads its tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, vocabulary: Vocabulary, name: str = "tiny") -> Tokenizer:
        path = write_tiny_llama(self.folder / f"{name}.gguf", vocabulary=vocabulary, layers=1)
        return Tokenizer.from_gguf(GGUFFile.open(path))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Maker(tmp_path_factory.mktemp("bpe"))(byte_level_vocabulary())


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Maker(tmp_path_factory.mktemp("spm"))(sentencepiece_vocabulary())


def pieces(tokenizer: Tokenizer, tokens: list[int]) -> list[bytes]:
    return [tokenizer.token_bytes(token) for token in tokens]


def test_merges_words_and_falls_back_to_bytes(byte_level: Tokenizer) -> None:
    tokens = byte_level.encode("hello the world é")
    assert pieces(byte_level, tokens) == [b"hello", b" the", b" world", b" ", b"\xc3", b"\xa9"]


def test_digits_stand_apart_where_the_name_says_so(byte_level: Tokenizer, make: Maker) -> None:
    words = ("12345", "Ġ12")
    apart = make(byte_level_vocabulary("smollm", words), "apart")
    by_three = make(byte_level_vocabulary("llama-bpe", words), "by_three")
    together = make(byte_level_vocabulary("gpt-2", words), "together")
    assert pieces(apart, apart.encode("12345")) == [b"1", b"2", b"3", b"4", b"5"]
    tokens = by_three.encode("12345", add_special=False)
    assert pieces(by_three, tokens) == [b"123", b"4", b"5"]
    assert pieces(together, together.encode("12345")) == [b"12345"]


def test_llama_3_takes_a_whole_word_before_its_merges(make: Maker) -> None:
    vocabulary = byte_level_vocabulary("llama-bpe", ())
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, "hi", "hello"],
        types=[*vocabulary.types, TokenType.NORMAL, TokenType.NORMAL],
        merges=["h i"],
    )
    whole = make(vocabulary, "whole")
    merged = make(replace(vocabulary, pre="smaug-bpe"), "merged")
    assert len(whole.encode("hello", add_special=False)) == 1
    assert len(merged.encode("hello", add_special=False)) == 5


def test_control_tokens_are_parsed_only_when_asked_for(byte_level: Tokenizer) -> None:
    typed = byte_level.encode("<|im_start|>hello")
    assert not {0, 1, 2} & set(typed)
    assert byte_level.decode(typed) == "<|im_start|>hello"
    parsed = byte_level.encode("<|im_start|>hello<|im_end|>", parse_special=True)
    assert parsed == [1, *byte_level.encode("hello"), 2]
    assert byte_level.decode(parsed) == "hello"


def test_typed_text_never_merges_into_a_control_token(make: Maker) -> None:
    vocabulary = sentencepiece_vocabulary(("▁the", "</", "s>"), add_space_prefix=False)
    letters = ["<", "/", ">"]
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, *letters],
        types=[*vocabulary.types, *[TokenType.NORMAL] * 3],
        scores=[*vocabulary.scores, -90.0, -91.0, -92.0],
    )
    tokenizer = make(vocabulary)
    assert pieces(tokenizer, tokenizer.encode("</s>", add_special=False)) == [b"</", b"s>"]
    assert tokenizer.encode("</s>", add_special=False, parse_special=True) == [2]


def test_user_defined_tokens_are_always_found_the_longest_first(make: Maker) -> None:
    vocabulary = byte_level_vocabulary()
    first = len(vocabulary.tokens)
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, "  ", "    "],
        types=[*vocabulary.types, TokenType.USER_DEFINED, TokenType.USER_DEFINED],
    )
    tokenizer = make(vocabulary)
    tokens = tokenizer.encode("hello" + 7 * " ")
    assert tokens[1:] == [first + 1, first, 3 + ord(" ")]
    assert tokenizer.decode(tokens) == "hello" + 7 * " "


def test_bos_and_eos_are_added_as_the_file_says(make: Maker) -> None:
    hello = make(byte_level_vocabulary(), "neither").encode("hello")
    both = make(replace(byte_level_vocabulary(), add_bos=True, add_eos=True), "both")
    assert both.encode("hello") == [1, *hello, 2]
    assert both.encode("hello", add_special=False) == hello
    silent = make(replace(byte_level_vocabulary(pre="llama-bpe"), add_bos=None), "silent")
    assert silent.encode("") == [1]
    assert make(sentencepiece_vocabulary(), "sentencepiece").encode("") == [1]


def test_files_may_have_a_number_for_a_flag_and_arrays_for_one_value(make: Maker) -> None:
    vocabulary = replace(
        byte_level_vocabulary(), add_bos=1, eos=[2, 0], chat_template=["{{ first }}", "{{ other }}"]
    )
    tokenizer = make(vocabulary)
    assert tokenizer.encode("")[:1] == [1]
    assert tokenizer.eos == 2
    assert tokenizer.end_of_generation >= {0, 2}
    assert tokenizer.chat_template == "{{ first }}"


def test_sentencepiece_merges_by_score_and_falls_back_to_bytes(sentencepiece: Tokenizer) -> None:
    tokens = sentencepiece.encode("hello world 漢字", add_special=False)
    assert pieces(sentencepiece, tokens) == [
        b" hello", b" world", b" ", "漢".encode(), b"\xe5", b"\xad", b"\x97",
    ]  # fmt: skip
    assert sentencepiece.decode(tokens) == "hello world 漢字"


def test_sentencepiece_prefixes_a_space_after_special_tokens_too(
    sentencepiece: Tokenizer, make: Maker
) -> None:
    hello = sentencepiece.encode("hello", add_special=False)
    tokens = sentencepiece.encode("hello</s>hello", add_special=False, parse_special=True)
    assert tokens == [*hello, 2, *hello]
    bare = make(sentencepiece_vocabulary(add_space_prefix=False))
    assert pieces(bare, bare.encode("hello", add_special=False))[0] == b"h"


def test_phi_3_drops_white_space_after_its_special_tokens(tmp_path: Path) -> None:
    vocabulary = byte_level_vocabulary()
    path = write_tiny_llama(tmp_path / "Phi-3-mini.gguf", vocabulary=vocabulary, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    hello = tokenizer.encode("hello")
    assert tokenizer.encode("<|im_end|> \n hello", parse_special=True) == [2, *hello]
    assert tokenizer.encode("<|endoftext|> hello", parse_special=True)[1:] != hello


def test_end_of_generation_goes_by_keys_and_by_names(make: Maker) -> None:
    assert make(byte_level_vocabulary(), "tiny").end_of_generation == {0, 2}
    vocabulary = byte_level_vocabulary()
    names = ["<|end|>", "<|return|>", "<|call|>", "<|channel|>"]
    first = len(vocabulary.tokens)
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, *names],
        types=[*vocabulary.types, *[TokenType.CONTROL] * 4],
        eos=5,
    )
    tokenizer = make(vocabulary, "harmony")
    assert tokenizer.end_of_generation == {0, 2, 5, first + 1, first + 2}
    assert tokenizer.token_bytes(first) == b"<|end|>"
    assert tokenizer.token_bytes(first + 3) == b"<|channel|>"


@pytest.mark.parametrize("name", sorted(special.END_OF_GENERATION | special.END_OF_FILE))
def test_every_known_name_ends_a_generation(make: Maker, name: str) -> None:
    tokenizer, token = with_names(make, name)
    assert token in tokenizer.end_of_generation
    assert tokenizer.token_bytes(token) == b""


@pytest.mark.parametrize("name", sorted(chain(*special.FILL_IN_THE_MIDDLE.values())))
def test_a_place_to_fill_in_is_control_but_no_end(make: Maker, name: str) -> None:
    tokenizer, token = with_names(make, name)
    assert token not in tokenizer.end_of_generation
    assert tokenizer.token_bytes(token) == b""
    assert token not in tokenizer.encode(name)


@pytest.mark.parametrize("key", special.ID_KEYS)
def test_every_key_ends_a_generation(tmp_path: Path, key: str) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", layers=1)
    field = f"tokenizer.ggml.{key}_token_id"
    if key != "eos":
        path = write_tiny_llama(path, layers=1, metadata={field: 70})
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    assert (2 if key == "eos" else 70) in tokenizer.end_of_generation


def test_every_listed_end_ends_a_generation(make: Maker) -> None:
    listed = replace(byte_level_vocabulary(), ends=[2, 70, 71, 1_000_000])
    assert make(listed, "tiny").end_of_generation == {0, 2, 70, 71}


@pytest.mark.parametrize("text", ["<|im_start|>hello", "hello"])
def test_a_beginning_that_stands_there_is_not_added_again(make: Maker, text: str) -> None:
    tokenizer = make(replace(byte_level_vocabulary(), add_bos=True), "tiny")
    parsed = tokenizer.encode(text, parse_special=True)
    assert parsed == [1, *tokenizer.encode("hello", add_special=False)]


def test_a_key_for_the_separator_of_files_wins_over_its_name(tmp_path: Path) -> None:
    vocabulary = byte_level_vocabulary()
    token = len(vocabulary.tokens)
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, "<|file_sep|>"],
        types=[*vocabulary.types, TokenType.CONTROL],
    )
    keyed = {"tokenizer.ggml.fim_sep_token_id": 70}
    path = write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, metadata=keyed, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    assert tokenizer.end_of_generation == {0, 2, 70}
    assert token not in tokenizer.end_of_generation


def test_the_end_of_a_sequence_is_a_word_where_another_marker_says_so(make: Maker) -> None:
    for marker in ("<|tool_response>", "</s>"):
        tokenizer, _ = with_names(make, "</s>", marker)
        ends = {tokenizer.encode("</s>", add_special=False, parse_special=True)[0]}
        assert (ends <= tokenizer.end_of_generation) == (marker == "</s>")


def with_names(make: Maker, *names: str) -> tuple[Tokenizer, int]:
    """A tokenizer whose last tokens, of type NORMAL, have these names, and the first one's id."""
    vocabulary = byte_level_vocabulary()
    names = tuple(name for name in dict.fromkeys(names) if name not in vocabulary.tokens)
    first = len(vocabulary.tokens) if names else 0
    vocabulary = replace(
        vocabulary,
        tokens=[*vocabulary.tokens, *names],
        types=[*vocabulary.types, *[TokenType.NORMAL] * len(names)],
    )
    return make(vocabulary, "named"), first


def test_a_name_that_ends_a_turn_is_control_whatever_its_type(make: Maker) -> None:
    vocabulary = byte_level_vocabulary()
    types = [TokenType.NORMAL, *vocabulary.types[1:]]
    tokenizer = make(replace(vocabulary, types=types))
    assert tokenizer.token_bytes(0) == b""
    assert 0 not in tokenizer.encode("<|endoftext|>")


def test_ids_past_the_vocabulary_have_no_text(byte_level: Tokenizer) -> None:
    assert byte_level.token_bytes(byte_level.vocabulary_size) == b""
    assert byte_level.token_bytes(-1) == b""


def test_unpaired_surrogates_become_replacement_characters(byte_level: Tokenizer) -> None:
    assert byte_level.decode(byte_level.encode("a\ud800b")) == "a\ufffdb"
    assert byte_level.decode(byte_level.encode("\ud83d\ude00")) == "😀"


def test_unknown_tokenizers_are_refused_by_name(make: Maker) -> None:
    for model in ("rwkv", "plamo2", "hybriddna", "whitespace", "no_vocab"):
        with pytest.raises(UnsupportedModel, match=rf"tokenizer\.ggml\.model '{model}'"):
            make(replace(byte_level_vocabulary(), model=model))
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.ggml\.pre 'quux'"):
        make(byte_level_vocabulary(pre="quux"))


def test_vocabularies_that_do_not_fit_are_refused_by_field(make: Maker) -> None:
    good = byte_level_vocabulary()
    with pytest.raises(GGUFError, match=r"token_type has 9 entries"):
        make(replace(good, types=good.types[:9]), "types")
    with pytest.raises(GGUFError, match=r"merges is missing"):
        make(replace(good, merges=()), "merges")
    scored = sentencepiece_vocabulary()
    with pytest.raises(GGUFError, match=r"scores is missing"):
        make(replace(scored, scores=()), "scores")


@given(text=st.text())
def test_byte_level_gives_back_every_text(byte_level: Tokenizer, text: str) -> None:
    assert byte_level.decode(byte_level.encode(text)) == text


@given(text=st.text().filter(lambda text: "▁" not in text))
def test_sentencepiece_gives_back_every_text(sentencepiece: Tokenizer, text: str) -> None:
    assert sentencepiece.decode(sentencepiece.encode(text)) == text


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), scored=st.booleans())
def test_damaged_vocabulary_works_or_fails_with_our_error(
    tmp_path: Path, data: st.DataObject, scored: bool
) -> None:
    vocabulary = sentencepiece_vocabulary() if scored else byte_level_vocabulary()
    path = tmp_path / f"{scored}.gguf"
    if not path.exists():
        write_tiny_llama(path, vocabulary=vocabulary, layers=1)
    damaged = bytearray(path.read_bytes())
    patches = st.one_of(st.binary(min_size=1, max_size=4), st.just(b"\xff" * 4), st.just(bytes(4)))
    for place, patch in data.draw(st.lists(st.tuples(st.integers(0, 9000), patches), min_size=1)):
        damaged[place : place + len(patch)] = patch
    made = tmp_path / "made.gguf"
    made.write_bytes(damaged)
    with contextlib.suppress(GGUFError, UnsupportedModel):
        tokenizer = Tokenizer.from_gguf(GGUFFile.open(made))
        tokens = tokenizer.encode("hello the world <|im_end|> é", parse_special=True)
        assert isinstance(tokenizer.decode(tokens), str)
