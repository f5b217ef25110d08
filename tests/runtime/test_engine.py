"""The engine over a real session of a tiny random model."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.engine import STUCK, Engine
from runtime.engine_core import MAX_FAILED_STEPS, STEP_FAILED
from runtime.errors import EngineUnavailable, InvalidRequest, QueueFull
from runtime.generation import FinishReason, Generation
from runtime.sampling import Logits, SamplingParameters, StepLogits
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs
from tests.held_session import Fault, HeldSession
from tests.waiting import SECONDS, eventually

GREEDY = SamplingParameters(temperature=0.0)
NO_END: frozenset[int] = frozenset()


class Start:
    """Starts engines over real sessions behind a gate, and ends them."""

    def __init__(self, prepared: Path, settings: Settings) -> None:
        self._prepared = prepared
        self._settings = settings
        self._started: list[tuple[Engine, HeldSession]] = []

    def __call__(
        self, end_of_generation: frozenset[int] = NO_END, *, held: bool = False, **changes: object
    ) -> Engine:
        """An engine whose steps wait at the gate where it is `held`."""
        chosen = msgspec.structs.replace(self._settings, **changes)
        session = HeldSession(Session(self._prepared, settings=chosen))
        if held:
            session.hold()
        engine = Engine(session, end_of_generation=end_of_generation, settings=chosen)
        self._started.append((engine, session))
        engine.start()
        return engine

    @property
    def session(self) -> HeldSession:
        """That of the engine that was started last."""
        return self._started[-1][1]

    def end(self) -> None:
        for engine, session in self._started:
            session.let_go()
            engine.stop()


@pytest.fixture
def start(prepared: Path, settings: Settings) -> Iterator[Start]:
    starter = Start(prepared, settings)
    yield starter
    starter.end()


def prompts(count: int, *, shortest: int = 1, longest: int = 60) -> list[list[int]]:
    generator = np.random.default_rng(5)
    lengths = generator.integers(shortest, longest + 1, count)
    return [generator.integers(0, 256, length).tolist() for length in lengths]


def ended(generation: Generation) -> tuple[int, ...]:
    assert generation.wait(SECONDS)
    assert generation.error is None
    return generation.tokens


def expect_preemption_to_change_no_token(start: Start) -> None:
    """Eight requests in a cache that holds two or three of them get the tokens of a roomy one."""
    roomy = start()
    expected = [ended(roomy.submit(p, GREEDY, 40)) for p in prompts(8, shortest=20)]
    tight = start(cache_tokens=160, page_size=8)
    together = [tight.submit(p, GREEDY, 40) for p in prompts(8, shortest=20)]
    assert [ended(generation) for generation in together] == expected
    assert tight.statistics().preemptions > 0
    assert tight.statistics().pages_used == 0


def outputs(generation: Generation) -> list[int | None]:
    seen = []
    while True:
        output = generation.next_output(SECONDS)
        assert output is not None
        seen.append(output.token)
        if output.finish_reason is not None:
            return seen


def test_a_request_gets_its_tokens_one_by_one_and_then_an_end(start) -> None:
    generation = start().submit([1, 2, 3], GREEDY, 5)
    assert outputs(generation) == list(generation.tokens)
    assert (len(generation.tokens), generation.finish_reason) == (5, FinishReason.LENGTH)
    times = generation.timings
    assert times.started_ns is not None
    assert times.first_token_ns is not None
    assert times.finished_ns is not None
    assert times.submitted_ns <= times.started_ns <= times.first_token_ns <= times.finished_ns


def test_sixteen_in_company_give_token_for_token_what_each_gives_alone(start) -> None:
    engine = start(token_budget=48)
    alone = [ended(engine.submit(prompt, GREEDY, 24)) for prompt in prompts(16)]
    # A new engine, lest the known pages of the first round make the second one another case.
    company = start(token_budget=48)
    together = [company.submit(prompt, GREEDY, 24) for prompt in prompts(16)]
    assert [ended(generation) for generation in together] == alone
    assert len(set(alone)) > 8


def test_a_seeded_request_repeats_itself_alone_and_in_company(start) -> None:
    engine = start()
    seeded = SamplingParameters(temperature=1.5, top_k=0, top_p=1.0, seed=42)
    alone = ended(engine.submit([7, 8, 9], seeded, 30))
    company = [engine.submit(prompt, SamplingParameters(), 30) for prompt in prompts(6)]
    assert ended(engine.submit([7, 8, 9], seeded, 30)) == alone
    assert all(ended(generation) for generation in company)
    assert ended(engine.submit([7, 8, 9], SamplingParameters(1.5, 0, 1.0, 43), 30)) != alone


def test_preemption_and_recomputation_change_no_token(start) -> None:
    expect_preemption_to_change_no_token(start)


def test_a_cached_prefix_changes_no_token(start) -> None:
    engine = start()
    prompt = prompts(1, shortest=50)[0]
    first = ended(engine.submit(prompt, GREEDY, 20))
    again = engine.submit(prompt, GREEDY, 20)
    assert ended(again) == first
    assert again.prefix_hit_tokens >= 32
    assert engine.statistics().prefix_hit_tokens == again.prefix_hit_tokens


def test_a_prompt_that_is_known_to_its_last_page_needs_one_token(start) -> None:
    engine = start()
    prompt = prompts(1, shortest=60)[0][:48]
    first = ended(engine.submit(prompt, GREEDY, 12))
    again = [engine.submit(prompt, GREEDY, 12) for _ in range(3)]
    assert [ended(generation) for generation in again] == [first] * 3
    assert [generation.prefix_hit_tokens for generation in again] == [47] * 3


@pytest.mark.parametrize("budget", [1, 7, 64])
def test_the_size_of_the_chunks_changes_no_token(start, budget: int) -> None:
    prompt = prompts(1, shortest=40)[0]
    assert ended(start(token_budget=budget).submit(prompt, GREEDY, 12)) == ended(
        start().submit(prompt, GREEDY, 12)
    )


def test_guesses_change_no_token_and_save_steps(start) -> None:
    plain, guessing = start(prompt_lookup=False), start(prompt_lookup=True)
    requests = [
        (prompt, SamplingParameters(temperature=temperature, seed=7))
        for prompt in ([5, 6, 7, 8] * 8, [9, 1, 2] * 3, *prompts(2))
        for temperature in (0.0, 0.8)
    ]
    expected = [ended(plain.submit(prompt, how, 60)) for prompt, how in requests]
    assert [ended(guessing.submit(prompt, how, 60)) for prompt, how in requests] == expected
    together = [guessing.submit(prompt, how, 60) for prompt, how in requests]
    assert [ended(generation) for generation in together] == expected
    alone = sum(len(tokens) for tokens in expected)
    before = guessing.statistics().steps
    for prompt, how in requests:
        ended(guessing.submit(prompt, how, 60))
    assert guessing.statistics().steps - before < alone
    assert guessing.statistics().tokens_generated == 3 * alone
    counts = guessing.statistics()
    assert 0 < counts.accepted_draft_tokens < counts.drafted_tokens
    assert plain.statistics().drafted_tokens == 0


def test_a_request_that_ends_within_a_guess_ends_where_it_would(start) -> None:
    plain = start(prompt_lookup=False)
    prompt = [5, 6, 7, 8] * 8
    tokens = ended(plain.submit(prompt, GREEDY, 60))
    engine = start(prompt_lookup=True)
    for count in range(1, 40):
        assert ended(engine.submit(prompt, GREEDY, count)) == tokens[:count]
    assert engine.statistics().pages_used == 0


def test_an_end_of_generation_token_ends_the_request_and_is_its_last(start) -> None:
    tokens = ended(start().submit([3, 4], GREEDY, 10))
    engine = start(end_of_generation=frozenset({tokens[4]}))
    generation = engine.submit([3, 4], GREEDY, 10)
    first = tokens.index(tokens[4])
    assert ended(generation) == tokens[: first + 1]
    assert generation.finish_reason is FinishReason.EOS
    assert len(ended(engine.submit([3, 4], GREEDY, 10, ignore_eos=True))) == 10


def test_an_answer_is_clamped_to_the_context(start) -> None:
    engine = start(cache_tokens=64)
    generation = engine.submit(list(range(60)), GREEDY, 1000)
    assert len(ended(generation)) == 4
    assert generation.finish_reason is FinishReason.LENGTH


def one_in_its_second_step(start: Start) -> tuple[Engine, Generation]:
    """A request that has one token and whose next step stands at the gate."""
    engine = start(held=True)
    generation = engine.submit([1, 2, 3], GREEDY, 200, ignore_eos=True)
    start.session.allow(1)
    assert generation.next_output(SECONDS) is not None
    start.session.wait_for_step()
    return engine, generation


def test_an_abort_frees_the_pages_and_tells_the_client(start) -> None:
    engine, generation = one_in_its_second_step(start)
    engine.abort(generation.request_id)
    start.session.let_go()
    assert generation.wait(SECONDS)
    assert generation.finish_reason is FinishReason.CANCELLED
    assert 0 < len(generation.tokens) <= 2
    assert engine.statistics().pages_used == 0
    engine.abort(generation.request_id)
    engine.abort(12345)
    assert len(ended(engine.submit([1], GREEDY, 2))) == 2


def test_a_request_whose_text_is_complete_is_stopped_and_counts_as_completed(start) -> None:
    engine, generation = one_in_its_second_step(start)
    engine.finish(generation.request_id)
    start.session.let_go()
    assert generation.wait(SECONDS)
    assert generation.finish_reason is FinishReason.STOP
    assert 0 < len(generation.tokens) <= 2
    engine.finish(generation.request_id)
    engine.finish(12345)
    final = engine.statistics()
    assert (final.started, final.completed, final.cancelled, final.pages_used) == (1, 1, 0, 0)


def test_counts_always_add_up(start) -> None:
    engine = start(max_batch_size=2)
    running = [engine.submit(p, GREEDY, 30) for p in prompts(10)]
    engine.abort(running[3].request_id)
    while not all(generation.finished for generation in running):
        seen = engine.statistics()
        live = seen.active + seen.queued
        assert seen.started == seen.completed + seen.failed + seen.cancelled + live
    final = engine.statistics()
    assert (final.started, final.completed + final.cancelled) == (10, 10)
    assert final.tokens_generated == sum(len(g.tokens) for g in running)
    assert (final.active, final.queued, final.pages_used) == (0, 0, 0)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        ([], 5, "no tokens"),
        ([1] * 256, 5, "shorten"),
        ([10**6], 5, "token id"),
        ([-1], 5, "token id"),
        ([1], -1, "max_tokens"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(start, prompt, max_tokens, message) -> None:
    with pytest.raises(InvalidRequest, match=message):
        start().submit(prompt, GREEDY, max_tokens)


def test_a_full_queue_refuses_and_keeps_what_it_has(start) -> None:
    engine = start(held=True, max_batch_size=1, max_queue_length=2)
    accepted = [engine.submit([1, 2], GREEDY, 20, ignore_eos=True) for _ in range(3)]
    with pytest.raises(QueueFull, match="--max-queue-length"):
        engine.submit([1, 2], GREEDY, 20)
    start.session.let_go()
    assert all(len(ended(generation)) == 20 for generation in accepted)


def test_a_rush_within_the_places_is_not_waiting(start) -> None:
    """What comes in during a step waits only until the next one."""
    engine = start(held=True, max_batch_size=16, max_queue_length=2)
    first = engine.submit([1, 2], GREEDY, 3)
    start.session.wait_for_step()
    rush = [engine.submit([1, 2], GREEDY, 3) for _ in range(17)]
    with pytest.raises(QueueFull):
        engine.submit([1, 2], GREEDY, 3)
    start.session.let_go()
    assert all(len(ended(generation)) == 3 for generation in (first, *rush))


def test_a_drain_finishes_what_runs_and_refuses_what_comes(start) -> None:
    engine = start()
    generation = engine.submit([1, 2], GREEDY, 50)
    engine.stop(drain_seconds=SECONDS)
    assert len(generation.tokens) == 50
    with pytest.raises(EngineUnavailable):
        engine.submit([1], GREEDY, 1)


def test_a_stop_without_a_drain_fails_what_runs_with_a_reason(start) -> None:
    engine, generation = one_in_its_second_step(start)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    eventually_refuses(engine)
    start.session.let_go()
    stopping.join(SECONDS)
    assert generation.finish_reason is FinishReason.FAILED
    assert "shutting down" in (generation.error or "")


def eventually_refuses(engine: Engine) -> None:
    """Wait until the engine has been told to stop."""

    def refuses() -> bool:
        try:
            engine.submit([1], GREEDY, 1)
        except EngineUnavailable:
            return True
        return False

    eventually(refuses, "it takes requests for ever")


def test_a_deadline_fails_a_request_that_takes_too_long(start) -> None:
    engine = start(held=True, request_timeout=1e-9)
    generation = engine.submit([1, 2], GREEDY, 200, ignore_eos=True)
    start.session.let_go()
    assert generation.wait(SECONDS)
    assert generation.finish_reason is FinishReason.FAILED
    assert engine.statistics().failed == 1


def test_the_wall_clock_ends_no_request_and_lengthens_no_phase(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(held=True, request_timeout=3000.0)
    generation = engine.submit([1, 2], GREEDY, 3)
    start.session.wait_for_step()
    later = time.time_ns() + 3600 * 10**9  # noqa: TID251 the wall clock that is set
    monkeypatch.setattr(time, "time_ns", lambda: later)
    start.session.let_go()
    assert len(ended(generation)) == 3
    times = generation.timings
    assert times.finished_ns is not None
    assert 0 < times.finished_ns - times.submitted_ns < 1800 * 10**9
    assert times.unix_ns(times.finished_ns) < later


def failing(times: int) -> Fault:
    """A step that raises a number of times, then works."""
    left = [times]

    def fault(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("/secret/path")
        return compute(inputs)

    return fault


def test_steps_that_fail_now_and_then_fail_their_requests_and_no_later_ones(start) -> None:
    engine = start()
    for _ in range(2):
        start.session.fault = failing(MAX_FAILED_STEPS - 1)
        for _ in range(MAX_FAILED_STEPS - 1):
            failed = engine.submit([1, 2], GREEDY, 5)
            assert failed.wait(SECONDS)
            assert failed.error == STEP_FAILED
        assert len(ended(engine.submit([1, 2], GREEDY, 3))) == 3
    assert engine.statistics().pages_used == 0


def test_an_engine_whose_steps_all_fail_is_given_up(start) -> None:
    engine = start()
    start.session.fault = failing(10**6)
    for _ in range(MAX_FAILED_STEPS):
        failed = engine.submit([1, 2], GREEDY, 5)
        assert failed.wait(SECONDS)
    assert engine.stop()
    assert engine.failure is not None
    assert "in a row" in engine.failure


def test_a_step_without_memory_says_so(start) -> None:
    def no_memory(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        raise MemoryError

    engine = start()
    start.session.fault = no_memory
    generation = engine.submit([1, 2], GREEDY, 5)
    assert generation.wait(SECONDS)
    assert "too little memory" in (generation.error or "")


@pytest.mark.parametrize("budget", [8, 256])
def test_pages_of_a_row_whose_logits_are_not_finite_are_found_by_nobody(start, budget: int) -> None:
    """Also those of its earlier chunks, and those that it found itself."""
    engine = start(token_budget=budget)
    prompt = list(range(1, 61))
    known = ended(engine.submit(prompt[:32], GREEDY, 2))
    expected = ended(start(token_budget=budget).submit(prompt, GREEDY, 8))
    engine, session = start._started[0]

    def not_finite(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        logits = compute(inputs)
        assert isinstance(logits, StepLogits)
        return StepLogits(np.full_like(logits.values, np.nan))

    session.fault = not_finite
    generation = engine.submit(prompt, GREEDY, 8)
    assert generation.wait(SECONDS)
    assert "not finite" in (generation.error or "")
    assert generation.prefix_hit_tokens == 32
    session.fault = None
    again = engine.submit(prompt, GREEDY, 8)
    assert ended(again) == expected
    assert again.prefix_hit_tokens == 0
    assert ended(engine.submit(prompt[:32], GREEDY, 2)) == known


def test_an_engine_that_hangs_refuses_and_can_be_left(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.engine.STOP_SECONDS", 0.0)
    engine = start(held=True, stall_timeout=1e-9)
    assert not engine.stalled
    stuck = engine.submit([1, 2], GREEDY, 5)
    start.session.wait_for_step()
    assert engine.stalled
    with pytest.raises(EngineUnavailable, match="hangs"):
        engine.submit([1], GREEDY, 1)
    assert not engine.stop()
    assert stuck.wait(0)
    assert (stuck.finish_reason, stuck.error) == (FinishReason.FAILED, STUCK)


def test_an_observer_that_hangs_is_seen_too(prepared: Path, settings: Settings) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Hanging:
        def finished(self, generation: Generation) -> None:
            entered.set()
            leave.wait(SECONDS)

    chosen = msgspec.structs.replace(settings, stall_timeout=1e-9)
    session = Session(prepared, settings=chosen)
    engine = Engine(session, end_of_generation=NO_END, settings=chosen, observer=Hanging())
    engine.start()
    generation = engine.submit([1], GREEDY, 1)
    assert entered.wait(SECONDS)
    assert engine.stalled
    leave.set()
    assert generation.wait(SECONDS)
    assert engine.stop()
    assert not engine.stalled


def test_a_look_at_the_weights_that_hangs_is_seen_too(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(SECONDS)

    monkeypatch.setattr("runtime.engine.IDLE_LOOK_SECONDS", 0.0)
    engine = start(stall_timeout=1e-9)
    monkeypatch.setattr(start.session, "check", hang)
    assert entered.wait(SECONDS)
    assert engine.stalled
    leave.set()
    assert engine.stop()
