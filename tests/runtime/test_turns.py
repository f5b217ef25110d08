"""Engines that share the processors compute one after the other, in the order of their asking."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs
from runtime.turns import Turns
from tests.waiting import eventually

STEP = StepInputs(
    token_ids=np.array([1, 2, 3], np.int32),
    positions=np.arange(3, dtype=np.int32),
    row_starts=np.array([0, 3], np.int32),
    page_table=np.array([[0]], np.int32),
    logit_rows=np.array([2], np.int32),
)


def test_turns_are_taken_in_order_and_by_one_at_a_time() -> None:
    turns, order, inside = Turns(), list[int](), list[int]()

    def take(number: int) -> None:
        with turns:
            inside.append(number)
            assert len(inside) == 1
            order.append(number)
            inside.pop()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    with turns:
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            eventually(lambda waiting=waiting: turns.waiting == waiting)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_has_just_had_a_turn_waits_behind_the_others() -> None:
    turns, order = Turns(), list[str]()

    def other() -> None:
        with turns:
            order.append("other")

    thread = threading.Thread(target=other)
    with turns:
        thread.start()
        eventually(lambda: turns.waiting == 1)
        order.append("first")
    with turns:
        order.append("first again")
    thread.join()
    assert order == ["first", "other", "first again"]


def test_a_turn_ends_with_an_exception_too() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="it fails"), turns:
        raise ValueError("it fails")
    with turns:
        assert turns.waiting == 0


def test_sessions_with_the_same_turns_compute_one_after_the_other(
    prepared: Path, settings: Settings
) -> None:
    turns = Turns()
    session = Session(prepared, settings=settings, turns=turns)
    alone = Session(prepared, settings=settings).run(STEP).copy()
    found: list[NDArray[np.float32]] = []
    thread = threading.Thread(target=lambda: found.append(session.run(STEP).copy()))
    with turns:
        thread.start()
        eventually(lambda: turns.waiting == 1)
        assert found == []
    thread.join()
    np.testing.assert_array_equal(found[0], alone)
