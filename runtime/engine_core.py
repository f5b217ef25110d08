"""What the engine's thread owns: the requests in the engine, and one step over them at a time."""

import logging
import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from runtime.drafts import PromptLookup
from runtime.generation import FinishReason, Generation, TokenOutput
from runtime.manifest import Manifest
from runtime.pace import Pace
from runtime.pages import PageManager
from runtime.plan import PlannedRow, StepPlan
from runtime.sampler import Logits, Sampler
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from runtime.settings import Settings
from runtime.statistics import StatisticsRecorder
from runtime.step import StepInputs

log = logging.getLogger("rocmforge.engine")


class StepRunner(Protocol):
    """What the engine needs of a session."""

    @property
    def manifest(self) -> Manifest:
        """The model that is run."""

    @property
    def page_count(self) -> int:
        """Pages of the KV cache."""

    def step(self, inputs: StepInputs) -> Logits:
        """Compute one step: logits of R rows to sample from, valid until the next call."""


class EngineObserver(Protocol):
    """Told of each request's end, on the engine's thread, before the client is."""

    def finished(self, generation: Generation) -> None:
        """Note the final state of a request."""


@dataclass(slots=True)
class _Live:
    """A request in the engine. Owned by the engine thread."""

    generation: Generation
    sequence: Sequence
    sampler: Sampler


class EngineCore:
    """Requests, scheduler, pages, samplers and session. Owned by the engine thread.

    `recorder` and `step_started` may be read from any thread.
    """

    def __init__(
        self,
        session: StepRunner,
        *,
        end_of_generation: frozenset[int],
        settings: Settings,
        observer: EngineObserver | None = None,
    ) -> None:
        self._session = session
        self._end_of_generation = end_of_generation
        self._settings = settings
        self._observer = observer
        self._pages = PageManager(session.page_count, settings.page_size)
        self._scheduler = Scheduler(
            self._pages, token_budget=settings.token_budget, max_running=settings.max_batch_size
        )
        self._pace = Pace(settings.longest_pause)
        self._live: dict[int, _Live] = {}
        self.recorder = StatisticsRecorder(self._pages.page_count)
        self.step_started: float | None = None
        """time.monotonic() at the start of the step that is computed now, if one is."""

    @property
    def cache_tokens(self) -> int:
        """Tokens that all pages hold."""
        return self._pages.page_count * self._pages.page_size

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self._live

    def add(self, generation: Generation) -> None:
        """Take in a request that was submitted."""
        drafts = PromptLookup() if self._settings.prompt_lookup else None
        sequence = Sequence(generation.request_id, list(generation.prompt_tokens), drafts)
        self._live[generation.request_id] = _Live(
            generation, sequence, Sampler(generation.sampling)
        )
        self._scheduler.add(sequence)

    def end(self, request_id: int, reason: FinishReason) -> None:
        """End a request now; one that is unknown or has ended is left as it is."""
        if (live := self._live.get(request_id)) is not None:
            self._end(live, reason)

    def end_overdue(self) -> None:
        """Fail the requests that have taken longer than the settings allow."""
        if timeout := self._settings.request_timeout:
            oldest = time.time_ns() - int(timeout * 1e9)
            for live in list(self._live.values()):
                if live.generation.timings.submitted_ns < oldest:
                    self._end(
                        live, FinishReason.FAILED, error=f"not finished after {timeout:g} seconds"
                    )

    def fail_all(self, error: str) -> None:
        """End every request as failed."""
        for live in list(self._live.values()):
            self._end(live, FinishReason.FAILED, error=error)

    def step(self) -> None:
        """Plan a step, compute it and hand out its tokens; without requests, do nothing."""
        plan = self._scheduler.plan(self._pace.patience)
        if plan is None:
            if self._live:
                raise AssertionError("no sequence can be scheduled")
            return
        self._note_started(plan)
        self.step_started = began = time.monotonic()
        try:
            logits = self._session.step(plan.inputs())
        except Exception as error:
            log.exception("a step failed")
            for row in plan.rows:
                live = self._live[row.sequence.request_id]
                self._end(live, FinishReason.FAILED, error=f"the model's step failed: {error}")
            return
        finally:
            self.step_started = None
        self._pace.step_done(time.monotonic() - began, plan.token_count, pauses=plan.pauses)
        self._scheduler.commit(plan)
        self._hand_out(plan, logits)

    def _note_started(self, plan: StepPlan) -> None:
        for row in plan.rows:
            generation = self._live[row.sequence.request_id].generation
            if generation.timings.started_ns is None:
                generation.prefix_hit_tokens = row.sequence.prefix_hits
                generation.mark_started()
        self._update_statistics()

    def _hand_out(self, plan: StepPlan, logits: Logits) -> None:
        """Sample all rows, then give each request its tokens."""
        sampled = plan.sampled
        if not sampled:
            self.recorder.step_done(0)
            return
        samples: list[list[int] | None] = []
        at = 0
        for row in sampled:
            samples.append(self._sample(row, logits, at))
            at += row.logits
        self.recorder.step_done(sum(len(tokens or ()) for tokens in samples))
        for row, tokens in zip(sampled, samples, strict=True):
            live = self._live[row.sequence.request_id]
            if tokens is None:
                self._end(live, FinishReason.FAILED, error="the model's logits are not finite")
            else:
                self._accept(live, row, tokens)

    def _sample(self, row: PlannedRow, logits: Logits, at: int) -> list[int] | None:
        """A row's next tokens, from its logits at `at` onward; None where they are not finite.

        After a guess that is the sampled token the logits behind it are the model's own, so the
        next token is drawn from them: the same draws from the same logits as one by one.
        """
        live = self._live[row.sequence.request_id]
        tokens: list[int] = []
        try:
            for guess, place in zip_longest(row.draft, range(at, at + row.logits)):
                tokens.append(live.sampler.sample(logits, place))
                if tokens[-1] != guess or self._ending(live.generation, tokens) is not None:
                    break
        except FloatingPointError:
            return None
        return tokens

    def _accept(self, live: _Live, row: PlannedRow, tokens: list[int]) -> None:
        """Give a request its next tokens; it may end with the last of them."""
        generation = live.generation
        reason = self._ending(generation, tokens)
        # All but the last were guessed, so their keys and values are in the pages already.
        self._scheduler.settle(row, len(tokens) - 1)
        for token in tokens:
            live.sequence.tokens.append(token)
            generation.append(token)
        for token in tokens if reason is None else tokens[:-1]:
            generation.publish(TokenOutput(token))
        if reason is not None:
            self._end(live, reason, tokens[-1])

    def _ending(self, generation: Generation, tokens: list[int]) -> FinishReason | None:
        """Why a request ends with the last of its next tokens, if it does."""
        if tokens[-1] in self._end_of_generation and not generation.ignore_eos:
            return FinishReason.EOS
        ends = generation.token_count + len(tokens) >= generation.max_tokens
        return FinishReason.LENGTH if ends else None

    def _end(
        self,
        live: _Live,
        reason: FinishReason,
        token: int | None = None,
        *,
        error: str | None = None,
    ) -> None:
        """Free what a request holds, count its end, then tell the observer and the client."""
        del self._live[live.generation.request_id]
        self._scheduler.remove(live.sequence)
        # Counted first, so that whoever sees the end also sees it counted.
        self._update_statistics(ended=reason)
        live.generation.finish(reason, error)
        if self._observer is not None:
            try:
                self._observer.finished(live.generation)
            except Exception:
                log.exception("the observer failed; the request's metrics may be incomplete")
        live.generation.publish(TokenOutput(token, reason))

    def _update_statistics(self, ended: FinishReason | None = None) -> None:
        self.recorder.update(
            ended=ended,
            active=self._scheduler.running_count,
            pages_used=self._pages.used_count,
            preemptions=self._scheduler.preemptions,
            prefix_hit_tokens=self._scheduler.prefix_hit_tokens,
        )
