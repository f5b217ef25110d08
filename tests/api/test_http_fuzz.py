"""Requests at random: each is answered or refused, and says nothing of the server's inside."""

import builtins
import http.client
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from api.errors import answer_of
from api.waitress_bodies import BodyMemory
from api.waitress_parser import Limits, RequestParser
from tests.api.conftest import Serve
from tests.api.mutations import mutated
from tests.api.raw_http import HEALTH, Answer, RawConnection
from tests.api.serving import Serving

EXCEPTIONS = [
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
]
INSIDE = re.compile(
    "|".join(
        [
            r"\b(" + "|".join(EXCEPTIONS) + r")\b",
            r"Traceback",
            re.escape(sys.prefix),
            re.escape(str(Path(__file__).parents[2])),
            r"\.py\b",
        ]
    ).encode()
)


def read_in_pieces(data: bytes, cuts: list[int]) -> list[tuple[Any, ...]]:
    """The requests parsed from bytes in pieces, up to the first that is refused."""
    memory = BodyMemory(4_000)
    limits = Limits(3_000, 60.0, memory)
    adjustments = Adjustments(max_request_header_size=2_000)
    parser = RequestParser(adjustments, limits)
    found: list[tuple[Any, ...]] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        piece = data[start:end]
        while piece:
            taken = parser.received(piece)
            assert 0 < taken <= len(piece)
            piece = piece[taken:]
            if not parser.completed:
                continue
            if (error := parser.error) is not None:
                assert memory.held_bytes == 0
                assert error.message
                return [*found, (error.code, answer_of(error.code).status)]
            if not parser.empty:
                body = parser.get_body_stream().read()
                assert int(parser.headers.get("CONTENT_LENGTH", "0")) == len(body)
                found.append((parser.command, parser.path, parser.headers, body))
            parser.close()
            parser = RequestParser(adjustments, limits)
    parser.close()
    assert memory.held_bytes == 0
    return found


@given(mutated() | st.binary(), st.data())
@settings(max_examples=400)
def test_bytes_mean_the_same_however_they_are_cut(request: bytes, data: st.DataObject) -> None:
    request += HEALTH
    whole = read_in_pieces(request, [])
    assert all(
        status in {400, 413, 431, 501, 505, 503} for *_, status in whole[-1:] if status == ""
    )
    cuts = data.draw(st.lists(st.integers(0, len(request)), max_size=20).map(sorted))
    assert read_in_pieces(request, cuts) == whole
    assert read_in_pieces(request, list(range(1, len(request)))) == whole


def answers(connection: RawConnection, request: bytes) -> list[Answer]:
    """Every answer, to the one to a second request or to the end of the connection."""
    found: list[Answer] = []
    connection.send(request)
    for _ in range(10):
        connection.send(HEALTH)
        try:
            found.append(connection.answer())
        except (ConnectionError, http.client.HTTPException):
            return found  # closed, perhaps in the middle of an answer that was given up
        if found[-1].closes:
            return found
        if b'"status":"healthy"' in found[-1].body:
            return found
    raise AssertionError("the second request was never answered")


def test_a_request_at_random_harms_neither_the_next_one_nor_the_server(serve: Serve) -> None:
    # A request that waits for more bytes ends soon.
    serving = serve(receive_timeout=0.001)

    @given(mutated())
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    def run(request: bytes) -> None:
        with RawConnection(serving) as connection:
            for answer in answers(connection, request):
                assert answer.status < 500 or answer.status in {501, 505}
                assert not INSIDE.search(answer.body)

    run()
    check_unharmed(serving)


def check_unharmed(serving: Serving) -> None:
    """Everything is given back, and requests are answered as ever."""
    assert serving.generate(max_tokens=1).ok
    assert serving.server.held_body_bytes == 0
    assert serving.services.slots.in_use == 0


NAMES = ["status/", "v1/models/", "traces?limit=", "traces?clear=", "requests?", "health?x=", ""]
HEADERS = [
    *("X-Request-Id", "traceparent", "tracestate", "Accept", "Authorization", "Cookie", "Origin"),
    *("Range", "If-None-Match", "X-Forwarded-For", "Forwarded", "Upgrade", "TE", "Expect"),
]


def test_paths_and_headers_at_random_are_answered(serve: Serve) -> None:
    serving = serve()
    visible = st.binary(max_size=30).map(lambda raw: bytes(each for each in raw if each > 32))

    @given(
        st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "DELETE", "PATCH", "FOO"]),
        st.sampled_from(NAMES),
        visible | st.text(max_size=20).map(lambda text: quote(text, safe="/?&=").encode()),
        st.sampled_from(HEADERS),
        st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0")),
    )
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    def run(method: str, name: str, rest: bytes, header: str, value: bytes) -> None:
        line = f"{method} /{name}".encode() + rest + b" HTTP/1.1\r\nHost: x\r\n"
        with RawConnection(serving) as connection:
            connection.send(line + header.encode() + b": " + value + b"\r\n\r\n")
            answer = connection.answer(method)
        assert answer.status < 500
        assert not INSIDE.search(answer.body)

    run()
    check_unharmed(serving)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 1e-300, 7e-46, 3.5e38, "\0", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    *("prompt", "messages", "model", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "seed", "stop", "stream", "stream_options", "n", "best_of", "echo", "suffix"),
    *("logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty", "tools"),
    *("ignore_eos", "chat_template_kwargs", "response_format", "user", "anything", "parse_special"),
    *("content", "tokens", "add_special", "with_pieces", "continue_final_message", "documents"),
    *("add_generation_prompt", "reasoning_effort"),
]
ROUTES = [
    *("/generate", "/generate/stream", "/v1/completions", "/v1/chat/completions"),
    *("/tokenize", "/detokenize", "/apply-template"),
    *("/v1/completions/render", "/v1/chat/completions/render"),
]


def test_values_at_random_are_taken_or_refused(serve: Serve) -> None:
    serving = serve()

    @given(
        st.sampled_from(ROUTES),
        st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2),
    )
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    def run(route: str, fields: dict[str, Any]) -> None:
        valid = {
            "prompt": "hello",
            "content": "hello",
            "tokens": [1],
            "messages": [{"role": "user", "content": "hi"}],
        }
        body = json.dumps({**valid, "max_tokens": 1, **fields})
        answer = serving.post(route, data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {200, 400, 404, 413}
        assert not INSIDE.search(answer.content)

    run()
    check_unharmed(serving)
