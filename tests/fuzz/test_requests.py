"""Unusual requests harm neither server nor background stream; see `make fuzz-requests`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.chat import ChatBody
from api.completions import CompletionBody
from api.schemas import GenerateBody
from tests.fuzz.answers import Answer, fault
from tests.fuzz.http_requests import BODIES, Sent
from tests.fuzz.run_requests import CONTEXT, WARM_UP, Target, fuzz
from tests.models import write_tiny_llama

REQUESTS = 2 * WARM_UP


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(write_tiny_llama(tmp_path / "tiny.gguf", context=CONTEXT), tmp_path)
    yield target
    target.end()


def test_odd_requests_are_answered_and_leave_nothing_behind(target: Target) -> None:
    fuzz(target, REQUESTS)
    target.expect_all_back()
    assert target.background.streams > 0
    assert target.statuses[200] > 0
    assert target.statuses[400] > 0


def test_every_field_of_every_body_is_fuzzed() -> None:
    for body in (GenerateBody, CompletionBody, ChatBody):
        assert body.__struct_fields__ in BODIES.values()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(500, "application/json", b'{"error": "x"}'), "500"),
        (Answer(503, "application/json", b'{"error": "x"}'), "503"),
        (Answer(400, "application/json", b'{"error": "/tmp/home/x"}'), "tells"),
        (Answer(400, "application/json", b"{}"), "without an error"),
        (Answer(200, "application/json", b'{"x": NaN}'), "NaN"),
        (Answer(200, "text/event-stream", b'data: {"x": 1}'), "inside an event"),
        (Answer(200, "text/event-stream", b'data: {"finish_reason": "failed"}\n\n'), "fails"),
        (Answer(0), "no answer"),
    ],
)
def test_a_wrong_answer_is_seen(answer: Answer, word: str) -> None:
    told = fault(Sent("POST", "/generate"), answer)
    assert told is not None
    assert word in told


def test_a_full_queue_is_no_fault() -> None:
    full = Answer(503, "application/json", b'{"error": "later"}', retry_after="1")
    assert fault(Sent("POST", "/generate"), full) is None
