"""Each fault point in an engine with other requests: their text stays, no page is lost."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.services import Services
from runtime.engine import DIED, Engine
from runtime.errors import EngineUnavailable
from runtime.generation import FinishReason, Generation
from runtime.sampling import SamplingParameters
from runtime.session import Session
from runtime.settings import Settings
from tests.faults.points import (
    OTHER_PROMPTS,
    POINTS,
    SECRET,
    VICTIM_PROMPT,
    VICTIM_SEED,
    FaultPoint,
    Hurts,
)
from tests.held_session import HeldSession
from tests.waiting import SECONDS

GREEDY = SamplingParameters(temperature=0.0)
TOKENS = 24


SHORT_OF_PAGES: dict[str, object] = {"cache_tokens": 96, "page_size": 8, "token_budget": 32}
LIMITS: tuple[dict[str, object], ...] = (
    {},
    {"token_budget": 7},
    SHORT_OF_PAGES,
    {"max_batch_size": 2, "prompt_lookup": False},
    {**SHORT_OF_PAGES, "kv_ram_bytes": 1 << 14, "kv_disk_bytes": 1 << 16},
)
RECOVERABLE = tuple(point for point in POINTS if point.hurts is not Hurts.ENGINE)


class Running:
    """An engine over a real session, whose steps the test holds."""

    def __init__(self, folder: Path, settings: Settings, **changes: object) -> None:
        settings = msgspec.structs.replace(settings, **changes)
        inner = Session(folder, settings=settings)
        self.session = HeldSession(inner)
        self.engine = Engine(
            self.session,
            end_of_generation=frozenset(),
            settings=settings,
            observer=Services(settings=settings),
            tiers=inner.page_tiers(settings),
        )
        self.engine.start()

    def others(self) -> list[Generation]:
        return [self.engine.submit(prompt, GREEDY, TOKENS) for prompt in OTHER_PROMPTS]

    def victim(self) -> Generation:
        sampling = SamplingParameters(temperature=0.01, seed=VICTIM_SEED)
        return self.engine.submit(VICTIM_PROMPT, sampling, TOKENS)


@pytest.fixture
def running(prepared: Path, settings: Settings) -> Iterator[Running]:
    started = Running(prepared, settings)
    yield started
    started.session.let_go()
    started.engine.stop()


@pytest.fixture(scope="module")
def expected(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, ...]]:
    """What the other requests generate if nothing fails."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), cache_tokens=1024, threads=2)
    started = Running(prepared, settings)
    generations = started.others()
    for generation in generations:
        assert generation.wait(SECONDS)
    started.engine.stop()
    return [generation.tokens for generation in generations]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_fault_hurts_nobody_but_whom_it_must(
    running: Running,
    expected: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    point: FaultPoint,
) -> None:
    running.session.hold()
    others = running.others()
    running.session.wait_for_step()
    victim = running.victim()
    with monkeypatch.context() as patch:
        point.arm(patch, running.session)
        running.session.let_go()
        for generation in (victim, *others):
            assert generation.wait(SECONDS)
    engine = running.engine
    match point.hurts:
        case Hurts.NOBODY:
            ended_well = [victim, *others]
        case Hurts.VICTIM:
            ended_well = others
        case _:
            ended_well = []
    if point.hurts is Hurts.ENGINE:
        for generation in (victim, *others):
            # It may have ended well before.
            is_whole = generation.token_count == TOKENS
            assert generation.error == (None if is_whole else DIED)
        assert engine.stop()
        assert (engine.running, engine.failure is None) == (False, False)
        with pytest.raises(EngineUnavailable):
            engine.submit([1], GREEDY, 1)
        return
    for generation in (victim, *others):
        assert (generation.finish_reason is FinishReason.LENGTH) == (generation in ended_well)
        assert (generation.error is None) == (generation in ended_well)
        assert SECRET not in (generation.error or "")
    if others[0] in ended_well:
        assert [generation.tokens for generation in others] == expected
    assert engine.statistics().completed == len(ended_well)
    again = running.others()
    for generation, tokens in zip(again, expected, strict=True):
        assert generation.wait(SECONDS)
        assert generation.tokens == tokens
    engine.stop()
    assert engine.failure is None
    engine._core.check_integrity()
    assert engine.statistics().pages_used == 0


@given(st.lists(st.sampled_from(RECOVERABLE), min_size=3, max_size=8), st.sampled_from(LIMITS))
@hypothesis_settings(max_examples=12, suppress_health_check=list(HealthCheck))
def test_faults_in_any_order_leave_an_engine_whole_that_is_short_of_pages_and_places(
    prepared: Path,
    settings: Settings,
    expected: list[tuple[int, ...]],
    points: list[FaultPoint],
    limits: dict[str, object],
) -> None:
    running = Running(prepared, settings, **limits)
    for point in points:
        with pytest.MonkeyPatch.context() as patch:
            point.arm(patch, running.session)
            generations = [running.victim(), *running.others(), running.victim()]
            for generation in generations:
                assert generation.wait(SECONDS)
        running.session.fault = None
        hurt = [g for g in generations if g.finish_reason is FinishReason.FAILED]
        if point.hurts is Hurts.NOBODY:
            assert hurt == []
        if point.hurts is not Hurts.STEP:
            assert [g.tokens for g in generations[1:-1]] == expected
    assert running.engine.stop()
    assert running.engine.failure is None
    running.engine._core.check_integrity()
    counted = running.engine.statistics()
    assert counted.pages_used == 0
    assert counted.started == counted.completed + counted.failed == 5 * len(points)
