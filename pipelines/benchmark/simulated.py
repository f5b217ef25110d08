"""A session that computes nothing, to measure the cost of the engine around it."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from runtime.engine import Engine
from runtime.manifest import Manifest
from runtime.pages import PageManager
from runtime.sampling import SamplingParameters, StepLogits
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence as ScheduledSequence
from runtime.settings import Settings
from runtime.step import StepInputs

PROMPT_TOKENS = 128
NEXT_TOKEN = 1


class SimulatedSession:
    """Answers every step at once, always with the same token, from when `begin` is set.

    Times are written by the engine's thread; they are read when the engine has stopped.
    """

    def __init__(self, manifest: Manifest, most_rows: int, page_count: int) -> None:
        self.manifest = manifest
        self.page_count = page_count
        self.state_slot_count = 0
        self._logits = np.zeros((most_rows, manifest.vocabulary_size), np.float32)
        self._logits[:, NEXT_TOKEN] = 1.0
        self._left_ns: int | None = None
        self.outside_ns: list[tuple[int, int]] = []
        """Requests that got a token in a step, and nanoseconds from its end to the next one."""
        self._sampled = 0
        self.begin = threading.Event()

    def check(self) -> None:
        """Do nothing: it has no weights."""

    def step(self, inputs: StepInputs) -> StepLogits:
        """Logits of R rows, always the same."""
        self.begin.wait()
        now = time.perf_counter_ns()
        if self._left_ns is not None:
            self.outside_ns.append((self._sampled, now - self._left_ns))
        self._sampled = len(inputs.logit_rows)
        self._left_ns = time.perf_counter_ns()
        return StepLogits(self._logits[: self._sampled])


def engine_ms_per_step(manifest: Manifest, running: int, steps: int) -> tuple[float, ...]:
    """Milliseconds of the engine outside the session for steps in which all requests get a token.

    Scheduling, sampling (greedy, the model's vocabulary) and handing out are in it.
    """
    settings = _settings(running, steps)
    session = SimulatedSession(manifest, running, settings.cache_tokens // settings.page_size)
    engine = Engine(session, end_of_generation=frozenset(), settings=settings)
    engine.start()
    try:
        greedy = SamplingParameters(temperature=0.0)
        generations = [
            engine.submit(_prompt(number, manifest.vocabulary_size), greedy, steps, ignore_eos=True)
            for number in range(running)
        ]
        session.begin.set()
        for generation in generations:
            generation.wait(None)
    finally:
        session.begin.set()
        engine.stop()
    return tuple(ns / 1e6 for sampled, ns in session.outside_ns if sampled == running)


def scheduler_ms_per_step(running: int, steps: int) -> tuple[float, ...]:
    """Milliseconds to plan a decode step of this many requests, make its arrays and commit it."""
    settings = _settings(running, steps)
    pages = PageManager(settings.cache_tokens // settings.page_size, settings.page_size)
    scheduler = Scheduler(pages, token_budget=settings.token_budget, max_running=running)
    for number in range(running):
        scheduler.add(ScheduledSequence(number, list(_prompt(number, 1 << 15))))
    times: list[float] = []
    while len(times) < steps:
        began = time.perf_counter_ns()
        plan = scheduler.plan()
        assert plan is not None
        plan.inputs()
        scheduler.commit(plan)
        took = time.perf_counter_ns() - began
        for sequence in (row.sequence for row in plan.sampled):
            sequence.tokens.append(NEXT_TOKEN)
        if plan.token_count == running:
            times.append(took / 1e6)
    return tuple(times)


def _settings(running: int, steps: int) -> Settings:
    """Return settings that fit all requests at once, and all prompts into the first step."""
    return Settings(
        cache_tokens=running * (PROMPT_TOKENS + 2 * steps + 16),
        token_budget=running * PROMPT_TOKENS,
        max_batch_size=running,
        max_queue_length=running,
        prompt_lookup=False,
    )


def _prompt(number: int, vocabulary_size: int) -> Sequence[int]:
    """Prompts that differ, so that none is found in the cache."""
    drawn = np.random.default_rng(number).integers(0, vocabulary_size, PROMPT_TOKENS)
    return [int(token) for token in drawn]
