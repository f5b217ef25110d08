import pytest

from api.errors import RequestNotFound
from api.request_log import KEPT_SECONDS, NEWEST_FINISHED, RequestLog
from runtime.generation import FinishReason
from tests.api.generations import ended, publish, running


def test_a_running_request_is_found_and_listed_with_its_name() -> None:
    log = RequestLog()
    generation = running(3)
    log.add(generation, "my-name")
    assert log.find(3) is generation
    assert [entry.x_request_id for entry in log.running()] == ["my-name"]


def test_an_ended_request_stays_readable_but_is_no_longer_listed() -> None:
    log = RequestLog()
    generation = running(3)
    log.add(generation, "my-name")
    publish(generation, 10, 11, reason=FinishReason.EOS)
    log.finished(generation)
    found = log.find(3)
    assert (found.request_id, found.tokens, found.finish_reason) == (3, (10, 11), "eos")
    assert log.running() == []


def test_a_request_that_ended_before_it_was_added_is_not_listed_as_running() -> None:
    log = RequestLog()
    generation = ended(3)
    log.finished(generation)
    log.add(generation, "late")
    assert log.running() == []
    assert log.find(3).finish_reason == "length"


def test_an_unknown_id_is_refused() -> None:
    with pytest.raises(RequestNotFound, match="99"):
        RequestLog().find(99)


def test_only_the_newest_ended_requests_are_kept() -> None:
    log = RequestLog()
    for request_id in range(1, NEWEST_FINISHED + 2):
        log.finished(ended(request_id))
    with pytest.raises(RequestNotFound):
        log.find(1)
    assert log.find(2).request_id == 2


def test_ended_requests_are_forgotten_after_ten_minutes() -> None:
    now = [1000.0]
    log = RequestLog(clock=lambda: now[0])
    log.finished(ended(1))
    now[0] += KEPT_SECONDS
    assert log.find(1).request_id == 1
    now[0] += 1.0
    with pytest.raises(RequestNotFound):
        log.find(1)
