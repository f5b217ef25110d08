import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answer_text import AnswerText
from api.sse import PING, EventStream, TokenEvent, TokenEvents, event_bytes
from runtime.detokenizer import StreamDecoder
from runtime.generation import FinishReason, Generation, Generations, TokenOutput
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.api.generations import publish, running
from tests.models import write_tiny_llama


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")
    return Tokenizer.from_gguf(GGUFFile.open(path))


def stream(
    generation: Generation, tokenizer: Tokenizer, closed: list[str] | None = None
) -> EventStream:
    return EventStream(
        Generations((generation,)),
        TokenEvents(
            generation.request_id,
            AnswerText(generation, StreamDecoder(tokenizer, continues=True), lambda: None),
        ),
        ping_seconds=0.01,
        on_close=lambda: (closed if closed is not None else []).append("closed"),
    )


def events(chunks: list[bytes]) -> list[dict[str, object]]:
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks if chunk != PING]


def test_an_event_is_written_as_the_document_shows_it() -> None:
    event = TokenEvent(2, 478, " Code", finished=False, finish_reason=None)
    assert event_bytes(event) == (
        b'data: {"request_id":2,"token":478,"text":" Code","finished":false,'
        b'"finish_reason":null}\n\n'
    )


@given(st.text())
def test_every_event_is_one_line_of_ascii(text: str) -> None:
    data = event_bytes(TokenEvent(1, 5, text, finished=True, finish_reason=FinishReason.EOS))
    assert data.isascii()
    line, *rest = data.split(b"\n")
    assert rest == [b"", b""]
    assert b"\r" not in line
    assert json.loads(line.removeprefix(b"data: "))["text"] == text


def test_texts_joined_are_the_text_of_all_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("hello the world, é 漢 🙂")
    generation = running()
    publish(generation, *tokens, reason=FinishReason.LENGTH)
    sent = events(list(stream(generation, tokenizer)))
    assert "".join(str(event["text"]) for event in sent) == "hello the world, é 漢 🙂"
    assert [event["token"] for event in sent] == tokens
    assert [event["finished"] for event in sent] == [False] * (len(tokens) - 1) + [True]
    assert [event["finish_reason"] for event in sent] == [None] * (len(tokens) - 1) + ["length"]


def test_a_character_that_is_cut_off_ends_as_a_replacement(tokenizer: Tokenizer) -> None:
    generation = running()
    publish(generation, *tokenizer.encode("é")[:1], reason=FinishReason.LENGTH)
    assert [event["text"] for event in events(list(stream(generation, tokenizer)))] == ["\ufffd"]


def test_the_end_of_sequence_event_has_its_id_and_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos is not None
    generation = running()
    publish(generation, *tokenizer.encode("hello"), tokenizer.eos, reason=FinishReason.EOS)
    last = events(list(stream(generation, tokenizer)))[-1]
    assert (last["token"], last["text"], last["finish_reason"]) == (tokenizer.eos, "", "eos")


def test_an_end_without_a_token_has_null(tokenizer: Tokenizer) -> None:
    generation = running()
    generation.finish(FinishReason.CANCELLED)
    generation.publish(TokenOutput(None, FinishReason.CANCELLED))
    assert events(list(stream(generation, tokenizer))) == [
        {
            "request_id": 1,
            "token": None,
            "text": "",
            "finished": True,
            "finish_reason": "cancelled",
        }
    ]


def test_a_silent_stream_pings(tokenizer: Tokenizer) -> None:
    assert next(stream(running(), tokenizer)) == b": ping\n\n"


def test_closing_is_done_once_even_where_the_stream_never_began(tokenizer: Tokenizer) -> None:
    closed: list[str] = []
    never_begun = stream(running(), tokenizer, closed)
    never_begun.close()
    never_begun.close()
    assert closed == ["closed"]
    assert list(never_begun) == []
