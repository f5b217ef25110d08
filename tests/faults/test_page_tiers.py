"""Faults of the tiers beyond the page pool: no request ends, no token changes."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest

from runtime.device import HostPool
from runtime.engine import Engine
from runtime.generation import FinishReason
from runtime.page_tiers import PageTiers
from runtime.page_tiers.disk_tier import DiskTier
from runtime.sampling import Logits, StepLogits
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs
from tests.faults.points import Panic
from tests.runtime.test_kept_pages import (
    DISK,
    GREEDY,
    OTHER,
    PAGE,
    RAM,
    answered,
    bits,
    held,
    running,
)
from tests.waiting import SECONDS, eventually

Answers = list[tuple[object, ...]]
PROMPTS = (OTHER, OTHER[::-1], [3, *OTHER], OTHER)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def raises(*_: Any) -> NoReturn:
        raise error

    return raises


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = (
    (DiskTier, "write", full_disk(), "gets no more pages"),
    (DiskTier, "write", OSError(errno.EROFS, "Read-only file system"), "gets no more pages"),
    (DiskTier, "write", Panic(), "is not used any more"),
    (DiskTier, "touch", OSError(errno.EIO, "Input/output error"), "gets no more pages"),
    (DiskTier, "read", OSError(errno.EIO, "Input/output error"), "is not used any more"),
    (DiskTier, "read", MemoryError(), "is not used any more"),
    (HostPool, "read_page", MemoryError(), "no more are kept"),
)


@pytest.fixture
def expected(prepared: Path, settings: Settings) -> Answers:
    with running(prepared, settings) as engine:
        return [bits(answered(engine, prompt)) for prompt in PROMPTS]


@pytest.mark.parametrize(("owner", "method", "error", "says"), FAULTS)
def test_a_fault_costs_the_tier_and_one_line_in_the_log(
    prepared: Path,
    settings: Settings,
    expected: Answers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    method: str,
    error: BaseException,
    says: str,
) -> None:
    monkeypatch.setattr(owner, method, raising(error))
    small = {"cache_tokens": 10 * PAGE, **RAM, **DISK}
    with running(prepared, settings, **small) as engine:
        assert [bits(answered(engine, prompt)) for prompt in PROMPTS] == expected
    assert caplog.text.count(says) == 1


def test_pages_of_wrong_logits_are_nowhere(prepared: Path, settings: Settings) -> None:
    def not_finite(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        logits = compute(inputs)
        assert isinstance(logits, StepLogits)
        return StepLogits(np.full_like(logits.values, np.nan))

    def written() -> int:
        return len(list(settings.kv_folder.rglob("*.page")))

    with held(prepared, settings, **DISK, **RAM) as (engine, session):
        before = answered(engine, OTHER)
        eventually(lambda: written() == 7)
        session.fault = not_finite
        broken = engine.submit([*OTHER, 5], GREEDY, 4)
        assert broken.wait(SECONDS)
        assert broken.finish_reason is FinishReason.FAILED
        eventually(lambda: written() == 0)
        session.fault = None
        again = answered(engine, OTHER)
        assert bits(again) == bits(before)
        assert again.prefix_hit_tokens == 0


def test_pages_are_still_read_where_none_can_be_written(
    prepared: Path, settings: Settings, expected: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine, OTHER)
    monkeypatch.setattr(DiskTier, "write", raising(full_disk()))
    with running(prepared, settings, **DISK) as engine:
        answered(engine, PROMPTS[1])
        again = answered(engine, OTHER)
        assert bits(again) == expected[0]
        assert again.prefix_hit_tokens == 7 * PAGE - 1


def test_a_folder_that_cannot_be_made_is_one_line_in_the_log(
    prepared: Path, settings: Settings, expected: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.home / "file").touch()
    folder = settings.home / "file" / "kv"
    with running(prepared, settings, kv_disk_folder=folder, **DISK) as engine:
        assert [bits(answered(engine, prompt)) for prompt in PROMPTS] == expected
    assert caplog.text.count("the KV cache on disk") == 1


def test_tiers_that_cannot_start_end_the_engine_and_its_requests(
    prepared: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = threading.Event()

    def panics(*_: object) -> NoReturn:
        begin.wait(SECONDS)
        raise Panic

    monkeypatch.setattr(PageTiers, "start", panics)
    chosen = msgspec.structs.replace(settings, **RAM)
    session = Session(prepared, settings=chosen)
    engine = Engine(
        session, end_of_generation=frozenset(), settings=chosen, tiers=session.page_tiers(chosen)
    )
    engine.start()
    waiting = engine.submit(OTHER, GREEDY, 20)
    begin.set()
    assert waiting.wait(SECONDS)
    assert waiting.finish_reason is FinishReason.FAILED
    assert engine.stop()
    assert engine.failure is not None
