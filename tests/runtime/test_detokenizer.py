"""Stream decoding: characters come when they are complete, and nothing is lost or added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.detokenizer import StreamDecoder
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import byte_level_vocabulary, sentencepiece_vocabulary, write_tiny_llama
from tests.runtime.test_stops import cut


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("bpe") / "m.gguf"
    write_tiny_llama(path, vocabulary=byte_level_vocabulary(), layers=1)
    return Tokenizer.from_gguf(GGUFFile.open(path))


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("spm") / "m.gguf"
    write_tiny_llama(path, vocabulary=sentencepiece_vocabulary(), layers=1)
    return Tokenizer.from_gguf(GGUFFile.open(path))


def byte_tokens(data: bytes) -> list[int]:
    """Both tiny vocabularies have the 256 bytes after 3 control tokens."""
    return [3 + byte for byte in data]


def stream(tokenizer: Tokenizer, tokens: list[int], *, continues: bool = False) -> list[str]:
    decoder = StreamDecoder(tokenizer, continues=continues)
    return [*(decoder.feed(token) for token in tokens), decoder.flush()]


def test_character_comes_with_its_last_byte(byte_level: Tokenizer) -> None:
    tokens = byte_tokens("a😀é".encode())
    assert stream(byte_level, tokens) == ["a", "", "", "", "😀", "", "é", ""]


def test_invalid_bytes_become_replacement_characters(byte_level: Tokenizer) -> None:
    assert stream(byte_level, byte_tokens(b"a\xffb")) == ["a", "\ufffd", "b", ""]
    assert stream(byte_level, byte_tokens(b"\xf0\x9fa")) == ["", "", "\ufffda", ""]


def test_flush_ends_an_unfinished_character(byte_level: Tokenizer) -> None:
    assert stream(byte_level, byte_tokens(b"\xf0\x9f\x98")) == ["", "", "", "\ufffd"]


def test_control_tokens_add_no_text(byte_level: Tokenizer) -> None:
    assert stream(byte_level, [1, *byte_tokens(b"a"), 2]) == ["", "a", "", ""]


def test_first_space_of_sentencepiece_is_dropped_once(sentencepiece: Tokenizer) -> None:
    hello = sentencepiece.encode("hello hello")
    assert "".join(stream(sentencepiece, hello)) == "hello hello"
    assert "".join(stream(sentencepiece, hello, continues=True)) == " hello hello"


def test_byte_level_keeps_its_first_space(byte_level: Tokenizer) -> None:
    assert "".join(stream(byte_level, byte_level.encode(" hello"))) == " hello"


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@given(data=st.data())
def test_joined_stream_is_decode(
    request: pytest.FixtureRequest, kind: str, data: st.DataObject
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = st.integers(0, tokenizer.vocabulary_size + 3)
    # bytes that lead a character but lack what follows are the hard part
    lead = st.sampled_from(byte_tokens(b"\xc3\xe2\xf0\x9f\x80\xff\xed\xa0 "))
    tokens = data.draw(st.lists(st.one_of(ids, lead), max_size=30))
    assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens)


@given(data=st.binary(max_size=40))
def test_decode_of_bytes_is_the_utf_8_of_python(byte_level: Tokenizer, data: bytes) -> None:
    assert byte_level.decode(byte_tokens(data)) == data.decode("utf-8", "replace")


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@given(data=st.data())
def test_joined_stream_is_decode_cut_at_the_stop(
    request: pytest.FixtureRequest, kind: str, data: st.DataObject
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    # few letters, so that stop strings do occur, and characters of two and four bytes
    few = st.sampled_from(byte_tokens("aé😀".encode() + b"\xff") + tokenizer.encode("hello"))
    tokens = data.draw(st.lists(few, max_size=30))
    stop = st.text("aé😀\ufffdhelo ", min_size=1, max_size=4)
    stops = data.draw(st.lists(stop, max_size=4))
    decoder = StreamDecoder(tokenizer, stops=stops)
    texts = [*(decoder.feed(token) for token in tokens), decoder.flush()]
    assert "".join(texts) == cut(tokenizer.decode(tokens), stops)
    assert decoder.stopped == any(stop in tokenizer.decode(tokens) for stop in stops)


def test_a_stop_string_is_found_across_tokens_and_the_bytes_of_a_character(
    byte_level: Tokenizer,
) -> None:
    decoder = StreamDecoder(byte_level, stops=["é😀"])
    texts = [decoder.feed(token) for token in byte_tokens("aé😀b".encode())]
    assert texts == ["a", *[""] * 7]
    assert decoder.stopped
    assert decoder.flush() == ""


def streamed(tokenizer: Tokenizer, tokens: list[int], *stops: str) -> tuple[str, bool]:
    """The text of the tokens and whether it came to a stop."""
    decoder = StreamDecoder(tokenizer, stops=stops)
    text = "".join(map(decoder.feed, tokens)) + decoder.flush()
    return text, decoder.stopped


def test_a_stop_that_names_a_control_token_ends_the_text_at_it(byte_level: Tokenizer) -> None:
    a, b = byte_tokens(b"ab")
    start, end = 1, 2
    assert streamed(byte_level, [a, start, b], "<|im_start|>") == ("a", True)
    assert streamed(byte_level, [a, end, b], "<|im_start|>") == ("ab", False)
    assert streamed(byte_level, [a, start, b, b], "<|im_start|>b") == ("a", True)
    assert streamed(byte_level, [a, b, end, start], "b<|im_end|><|im_start|>", "x") == ("a", True)
    assert streamed(byte_level, [a, b, end, a], "b<|im_end|>b", "x") == ("aba", False)
    # Written out in characters it is plain text.
    assert streamed(byte_level, byte_tokens(b"<|im_end|>b"), "<|im_end|>") == ("<|im_end|>b", False)
    # Control tokens that no stop names part no stop string.
    assert streamed(byte_level, [a, start, b], "ab") == ("", True)


def test_an_unfinished_character_before_a_control_token_that_stops_is_dropped(
    byte_level: Tokenizer,
) -> None:
    assert streamed(byte_level, [*byte_tokens(b"a\xf0\x9f"), 2], "<|im_end|>") == ("a", True)
