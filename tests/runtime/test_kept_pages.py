"""An engine whose pages are kept in RAM and on disk answers with the same bits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.generation import EngineRequest, FinishReason, Generation
from runtime.page_tiers import page_tiers
from runtime.sampling import SamplingParameters
from runtime.session import Session, memory_bytes
from runtime.settings import Settings
from runtime.source import Source
from runtime.statistics import PageTierCounts
from tests.held_disk import HeldDisk
from tests.held_session import HeldSession
from tests.tiny_models import TINY_MODELS, write_tiny_model
from tests.waiting import SECONDS

GREEDY = SamplingParameters(temperature=0.0)
PAGE = 16
PROMPT = np.random.default_rng(5).integers(0, 256, 10 * PAGE + 3).tolist()
OTHER = np.random.default_rng(6).integers(0, 256, 7 * PAGE).tolist()
DISK: dict[str, object] = {"kv_disk_bytes": 1 << 24}
RAM: dict[str, object] = {"kv_ram_bytes": 1 << 24}


@contextmanager
def running(folder: Path, settings: Settings, **changes: object) -> Iterator[Engine]:
    with held(folder, settings, **changes) as (engine, _):
        yield engine


@contextmanager
def held(
    folder: Path, settings: Settings, **changes: object
) -> Iterator[tuple[Engine, HeldSession]]:
    chosen = msgspec.structs.replace(settings, **changes)
    inner = Session(folder, settings=chosen)
    session = HeldSession(inner)
    engine = Engine(
        session,
        end_of_generation=frozenset(),
        settings=chosen,
        tiers=inner.page_tiers(chosen),
    )
    engine.start()
    try:
        yield engine, session
    finally:
        session.let_go()
        assert engine.stop()
        assert engine.failure is None
        engine._core.check_integrity()


def answered(engine: Engine, prompt: list[int] = PROMPT, salt: bytes = b"") -> Generation:
    request = EngineRequest(tuple(prompt), GREEDY, 20, top_logprobs=5, cache_salt=salt)
    generation = engine.submit_all((request,)).each[0]
    assert generation.wait(SECONDS)
    assert generation.error is None
    return generation


def bits(generation: Generation) -> tuple[object, ...]:
    """Its tokens, and the probabilities of the likeliest ones as they were computed."""
    likeliest = [(*each.top_tokens, *each.top_logprobs) for each in generation.logprobs]
    return generation.tokens, likeliest


def tiers(engine: Engine) -> PageTierCounts:
    return engine.statistics().tiers


@pytest.fixture
def plain(prepared: Path, settings: Settings) -> tuple[object, ...]:
    """The answer of an engine without tiers."""
    with running(prepared, settings) as engine:
        return bits(answered(engine))


def test_a_prompt_is_known_after_a_restart_with_the_same_bits(prepared, settings, plain) -> None:
    with running(prepared, settings, **DISK) as engine:
        assert bits(answered(engine)) == plain
    with running(prepared, settings, **DISK) as engine:
        again = answered(engine)
        assert bits(again) == plain
        assert again.prefix_hit_tokens == 10 * PAGE
        assert tiers(engine).disk_hit_pages == 10


def test_a_longer_prompt_continues_from_what_is_on_disk(prepared, settings) -> None:
    longer = [*PROMPT, *OTHER[:60]]
    with running(prepared, settings) as engine:
        expected = bits(answered(engine, longer))
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    with running(prepared, settings, **DISK) as engine:
        answered(engine, PROMPT[: 4 * PAGE + 1])
        again = answered(engine, longer)
        assert bits(again) == expected
        assert again.prefix_hit_tokens == 10 * PAGE
        assert tiers(engine).disk_hit_pages == 10


def test_a_page_that_left_the_pool_comes_back_from_ram(prepared, settings, plain) -> None:
    with running(prepared, settings, cache_tokens=16 * PAGE, **RAM) as engine:
        assert bits(answered(engine)) == plain
        answered(engine, OTHER)
        answered(engine, OTHER[::-1])
        again = answered(engine)
        assert bits(again) == plain
        assert again.prefix_hit_tokens == 10 * PAGE
        counts = tiers(engine)
        assert counts.ram_hit_pages > 0
        assert counts.disk_hit_pages == 0
        assert counts.ram_bytes > 0


def test_pages_that_leave_with_too_many_others_are_counted_and_not_copied(
    prepared, settings, plain, monkeypatch
) -> None:
    size = Session(prepared, settings=settings).manifest.page_layout.bytes_per_token() * PAGE
    monkeypatch.setattr(page_tiers, "COPIED_BYTES", 2 * size)
    with running(prepared, settings, cache_tokens=12 * PAGE, **RAM) as engine:
        answered(engine)
        answered(engine, OTHER)
        counts = tiers(engine)
        assert counts.ram_bytes <= counts.copied_bytes
        assert counts.uncopied_pages > 0
        assert bits(answered(engine)) == plain


def test_pages_in_ram_and_pages_on_disk_continue_each_other(prepared, settings, plain) -> None:
    size = Session(prepared, settings=settings).manifest.page_layout.bytes_per_token() * PAGE
    small = {"cache_tokens": 16 * PAGE, "kv_ram_bytes": 3 * size}
    with running(prepared, settings, **small, **DISK) as engine:
        for prompt in (PROMPT, OTHER, OTHER[::-1], PROMPT, OTHER, PROMPT):
            expected = plain if prompt is PROMPT else None
            given = bits(answered(engine, prompt))
            assert expected in (None, given)
        counts = tiers(engine)
        assert counts.ram_hit_pages > 0
        assert counts.disk_hit_pages > 0
        assert counts.ram_dropped_pages > 0
        assert counts.ram_bytes <= 3 * size


def test_preempted_requests_get_their_pages_back_with_the_same_bits(prepared, settings) -> None:
    prompts = [
        np.random.default_rng(seed).integers(0, 256, 30 + 9 * seed).tolist() for seed in range(8)
    ]
    with running(prepared, settings) as engine:
        expected = [engine.submit(prompt, GREEDY, 40) for prompt in prompts]
        assert all(each.wait(SECONDS) for each in expected)
    tight = {"cache_tokens": 160, "page_size": 8}
    with running(prepared, settings, **tight, **RAM, **DISK) as engine:
        for _ in range(3):
            together = [engine.submit(prompt, GREEDY, 40) for prompt in prompts]
            assert all(each.wait(SECONDS) for each in together)
            assert [each.tokens for each in together] == [each.tokens for each in expected]
        assert engine.statistics().preemptions > 0
        assert engine.statistics().pages_used == 0
        assert tiers(engine).ram_hit_pages + tiers(engine).disk_hit_pages > 0


def test_only_equal_salts_share_pages_on_disk(prepared, settings) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine, salt=b"one")
    with running(prepared, settings, **DISK) as engine:
        assert answered(engine, salt=b"other").prefix_hit_tokens == 0
        assert answered(engine, salt=b"one").prefix_hit_tokens == 10 * PAGE


def test_another_page_size_finds_nothing(prepared, settings) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    with running(prepared, settings, page_size=8, **DISK) as engine:
        assert answered(engine).prefix_hit_tokens == 0


def test_damaged_pages_are_computed_again(prepared, settings, plain) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    oldest_first = sorted(settings.kv_folder.rglob("*.page"), key=lambda path: path.stat().st_mtime)
    oldest_first[4].write_bytes(oldest_first[4].read_bytes()[:-1] + b"!")
    with running(prepared, settings, **DISK) as engine:
        again = answered(engine)
        assert bits(again) == plain
        assert again.prefix_hit_tokens == 4 * PAGE
        assert tiers(engine).disk_damaged_pages == 1
    with running(prepared, settings, **DISK) as engine:
        assert answered(engine).prefix_hit_tokens == 10 * PAGE


def test_requests_with_the_same_beginning_wait_for_one_reading(prepared, settings, plain) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    with held(prepared, settings, **DISK) as (engine, session):
        session.hold()
        first = engine.submit([1, 2, 3], GREEDY, 2)
        session.wait_for_step()
        together = [engine.submit(PROMPT, GREEDY, 20) for _ in range(5)]
        session.let_go()
        assert all(each.wait(SECONDS) for each in (first, *together))
        assert {each.tokens for each in together} == {plain[0]}
        assert {each.prefix_hit_tokens for each in together} == {10 * PAGE}
        assert tiers(engine).disk_hit_pages == 10


def test_others_go_on_while_a_request_waits_for_the_disk(
    prepared, settings, plain, monkeypatch
) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    disk = HeldDisk(monkeypatch)
    with running(prepared, settings, **DISK) as engine:
        cancelled, joined = (engine.submit(PROMPT, GREEDY, 20) for _ in range(2))
        disk.wait_for_read()
        other = engine.submit([1, 2, 3], GREEDY, 8)
        assert other.wait(SECONDS)
        assert len(other.tokens) == 8
        assert engine.statistics().queued == 2
        engine.abort(cancelled.request_id)
        assert cancelled.wait(SECONDS)
        disk.let_go()
        assert joined.wait(SECONDS)
        assert joined.tokens == plain[0]
        assert engine.statistics().pages_used == 0


def test_running_requests_take_the_room_of_one_that_waits(
    prepared, settings, plain, monkeypatch
) -> None:
    tight = {"cache_tokens": 14 * PAGE}
    with running(prepared, settings, **tight, **DISK) as engine:
        expected = bits(answered(engine, OTHER))
        answered(engine)
    disk = HeldDisk(monkeypatch)
    disk.let_go()
    with running(prepared, settings, **tight, **DISK) as engine:
        answered(engine, PROMPT[: 4 * PAGE + 1])
        disk.hold()
        waiting = engine.submit(PROMPT, GREEDY, 20)
        disk.wait_for_read()
        long = engine.submit([7, 8, 9], GREEDY, 12 * PAGE)
        assert long.wait(SECONDS)
        assert len(long.tokens) == 12 * PAGE
        disk.let_go()
        assert waiting.wait(SECONDS)
        assert waiting.tokens == plain[0]
        assert bits(answered(engine, OTHER)) == expected


def test_a_disk_that_does_not_answer_is_not_waited_for(
    prepared, settings, plain, monkeypatch
) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    disk = HeldDisk(monkeypatch, patience=0.0)
    with running(prepared, settings, **DISK) as engine:
        assert bits(answered(engine)) == plain
        assert answered(engine, OTHER).prefix_hit_tokens == 0
        disk.let_go()


def test_an_engine_stops_while_a_request_waits_for_the_disk(
    prepared, settings, monkeypatch
) -> None:
    with running(prepared, settings, **DISK) as engine:
        answered(engine)
    disk = HeldDisk(monkeypatch)
    with running(prepared, settings, **DISK) as engine:
        waiting = engine.submit(PROMPT, GREEDY, 20)
        disk.wait_for_read()
        threading.Timer(0.1, disk.let_go).start()
    assert waiting.finish_reason is FinishReason.FAILED


def test_the_memory_of_a_model_includes_its_tier_in_ram(prepared, settings) -> None:
    manifest = Session(prepared, settings=settings).manifest
    more = msgspec.structs.replace(settings, **RAM)
    assert memory_bytes(manifest, more) - memory_bytes(manifest, settings) == RAM["kv_ram_bytes"]


def test_without_the_settings_there_are_no_tiers(prepared, settings) -> None:
    assert Session(prepared, settings=settings).page_tiers(settings) is None


def written(name: str, folder: Path) -> Path:
    """A tiny model of this name, converted."""
    gguf = write_tiny_model(folder / "tiny.gguf", TINY_MODELS[name])
    (folder / "prepared").mkdir()
    convert(Source(gguf), folder / "prepared", "tiny")
    return folder / "prepared"


def test_a_model_with_recurrent_layers_has_no_tiers(settings, tmp_path, caplog) -> None:
    chosen = msgspec.structs.replace(settings, **DISK)
    assert Session(written("lfm2", tmp_path), settings=chosen).page_tiers(chosen) is None
    assert "no prefix continues from its pages alone" in caplog.text


def test_pages_of_a_sliding_window_are_kept_with_the_same_bits(settings, tmp_path) -> None:
    gemma = written("gemma2", tmp_path)
    with running(gemma, settings) as engine:
        expected = bits(answered(engine))
    with running(gemma, settings, **DISK) as engine:
        answered(engine)
    with running(gemma, settings, **DISK) as engine:
        again = answered(engine)
        assert bits(again) == expected
        assert again.prefix_hit_tokens == 10 * PAGE
