from typing import Any

import pytest

from api.errors import RequestNotFound
from api.request_log import (
    KEPT_SECONDS,
    NEWEST_FINISHED,
    FinishedRequest,
    RequestLog,
    RunningEntry,
)
from runtime.generation import FinishReason
from tests.api.generations import ended, publish, running


class Model:
    """As much of a served model as the log looks at."""

    tokenizer: Any = object()


MODEL: Any = Model()


def add_ended(log: RequestLog, request_id: int) -> None:
    """Add a request that has ended."""
    generation = ended(request_id)
    log.finished(generation)
    log.add(generation, "a-name", MODEL)


def test_a_running_request_is_found_and_listed_with_its_name() -> None:
    log = RequestLog()
    generation = running(3)
    log.add(generation, "my-name", MODEL)
    found = log.find(3)
    assert isinstance(found, RunningEntry)
    assert (found.generation, found.model) == (generation, MODEL)
    assert [entry.x_request_id for entry in log.running()] == ["my-name"]


def test_an_ended_request_stays_readable_but_is_no_longer_listed() -> None:
    log = RequestLog()
    generation = running(3)
    log.add(generation, "my-name", MODEL)
    publish(generation, 10, 11, reason=FinishReason.EOS)
    log.finished(generation)
    found = log.find(3)
    assert isinstance(found, FinishedRequest)
    assert (found.request_id, found.tokens, found.finish_reason) == (3, (10, 11), "eos")
    assert found.tokenizer is Model.tokenizer
    assert log.running() == []


def test_a_request_that_ended_before_it_was_added_is_not_listed_as_running() -> None:
    log = RequestLog()
    generation = ended(3)
    log.finished(generation)
    log.add(generation, "late", MODEL)
    assert log.running() == []
    found = log.find(3)
    assert isinstance(found, FinishedRequest)
    assert found.finish_reason == "length"
    assert found.tokenizer is Model.tokenizer


def test_an_unknown_id_is_refused() -> None:
    with pytest.raises(RequestNotFound, match="99"):
        RequestLog().find(99)


def test_only_the_newest_ended_requests_are_kept() -> None:
    log = RequestLog()
    for request_id in range(1, NEWEST_FINISHED + 2):
        add_ended(log, request_id)
    with pytest.raises(RequestNotFound):
        log.find(1)
    assert isinstance(log.find(2), FinishedRequest)


def test_ended_requests_are_forgotten_after_ten_minutes() -> None:
    now = [1000.0]
    log = RequestLog(clock=lambda: now[0])
    add_ended(log, 1)
    now[0] += KEPT_SECONDS
    assert isinstance(log.find(1), FinishedRequest)
    now[0] += 1.0
    with pytest.raises(RequestNotFound):
        log.find(1)
