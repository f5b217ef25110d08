"""Stream decoding: characters come when they are complete, and nothing is lost or added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.detokenizer import StopMatcher, StreamDecoder
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import byte_level_vocabulary, sentencepiece_vocabulary, write_tiny_llama


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
