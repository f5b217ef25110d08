"""The engine: one thread that turns submitted requests into tokens, step by step."""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence as AnySequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.drafts import PromptLookup
from runtime.errors import EngineUnavailable, InvalidRequest, QueueFull
from runtime.generation import FinishReason, Generation, TokenOutput
from runtime.manifest import Manifest
from runtime.pages import PageManager
from runtime.plan import PlannedRow, StepPlan
from runtime.sampler import Sampler, SamplingParameters
from runtime.scheduler import Scheduler
from runtime.sequence import Sequence
from runtime.settings import Settings
from runtime.statistics import EngineStatistics, StatisticsRecorder
from runtime.step import StepInputs

STALL_SECONDS = 120.0
"""A step that takes longer counts as stuck."""

log = logging.getLogger("rocmforge.engine")


class StepRunner(Protocol):
    """What the engine needs of a session."""

    @property
    def manifest(self) -> Manifest:
        """The model that is run."""

    @property
    def page_count(self) -> int:
        """Pages of the KV cache."""

    def run(self, inputs: StepInputs) -> NDArray[np.float32]:
        """Compute one step: logits float32 [R, V], valid until the next call."""


class EngineObserver(Protocol):
    """Told of each request's end, on the engine's thread, before the client is."""

    def finished(self, generation: Generation) -> None:
        """Note the final state of a request."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """The wish that a request end now."""

    request_id: int
    reason: FinishReason


@dataclass(slots=True)
class _Live:
    """A request in the engine. Owned by the engine thread."""

    generation: Generation
    sequence: Sequence
    sampler: Sampler


class Engine:
    """Continuous batching over one session.

    `submit`, `finish`, `abort`, `statistics` and the properties may be called from any thread;
    scheduler, pages, samplers and the session belong to the engine's own thread.
    """

    def __init__(
        self,
        session: StepRunner,
        *,
        end_of_generation: frozenset[int],
        settings: Settings,
        observer: EngineObserver | None = None,
        request_ids: Iterator[int] | None = None,
    ) -> None:
        """Take a session over. `request_ids` gives each request its id: engines may share one."""
        self._session = session
        self._end_of_generation = end_of_generation
        self._settings = settings
        self._observer = observer
        self._pages = PageManager(session.page_count, settings.page_size)
        self._scheduler = Scheduler(
            self._pages, token_budget=settings.token_budget, max_running=settings.max_batch_size
        )
        self._recorder = StatisticsRecorder(self._pages.page_count)
        self._live: dict[int, _Live] = {}
        self._request_ids = itertools.count(1) if request_ids is None else request_ids
        self._inbox: queue.SimpleQueue[Generation | _Ending | None] = queue.SimpleQueue()
        """Requests to take in, requests to end, or None to look again."""
        self._submitting = threading.Lock()
        self._accepting = False
        self._stop_at: float | None = None
        self._step_started: float | None = None
        self._thread: threading.Thread | None = None
        self.failure: str | None = None
        """Why the engine's thread died, if it did."""

    @property
    def context_length(self) -> int:
        """Most tokens of one request, prompt and answer together."""
        return min(
            self._session.manifest.context_length, self._pages.page_count * self._pages.page_size
        )

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens that the model knows."""
        return self._session.manifest.vocabulary_size

    @property
    def running(self) -> bool:
        """Whether the engine's thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stalled(self) -> bool:
        """Whether the current step has taken suspiciously long."""
        started = self._step_started
        return started is not None and time.monotonic() - started > STALL_SECONDS

    def start(self) -> None:
        """Start the engine's thread."""
        self._accepting = True
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Refuse new requests, let running ones finish for so long, fail the rest, and return.

        math.inf lets every one finish. A second call may shorten the time of the first.
        """
        with self._submitting:
            self._accepting = False
            self._stop_at = time.monotonic() + drain_seconds
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()

    def submit(
        self,
        prompt_tokens: AnySequence[int],
        sampling: SamplingParameters,
        max_tokens: int,
        *,
        ignore_eos: bool = False,
        context: object = None,
    ) -> Generation:
        """Queue a request. `max_tokens` is clamped to what the context leaves.

        `context` is carried to the observer of the request's end, however soon that is.

        Raises InvalidRequest for a prompt that is empty, fills the context or holds unknown ids;
        QueueFull; EngineUnavailable.
        """
        prompt = tuple(prompt_tokens)
        if not prompt:
            raise InvalidRequest("the prompt has no tokens; send at least one character")
        if len(prompt) >= self.context_length:
            raise InvalidRequest(
                f"the prompt has {len(prompt)} tokens and leaves no room for an answer in the "
                f"context of {self.context_length}; shorten it"
            )
        if max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1")
        if not (min(prompt) >= 0 and max(prompt) < self.vocabulary_size):
            raise InvalidRequest(f"a token id is not between 0 and {self.vocabulary_size - 1}")
        max_tokens = min(max_tokens, self.context_length - len(prompt))
        with self._submitting:
            if not self._accepting or not self.running:
                raise EngineUnavailable("the engine takes no requests now; try again later")
            if self._recorder.queued >= self._settings.max_queue_length:
                raise QueueFull(
                    f"{self._settings.max_queue_length} requests are waiting already; "
                    "try again later"
                )
            generation = Generation(
                next(self._request_ids),
                prompt,
                sampling,
                max_tokens,
                ignore_eos=ignore_eos,
                context=context,
            )
            self._recorder.request_submitted()
            self._inbox.put(generation)
        return generation

    def finish(self, request_id: int) -> None:
        """End a request as stopped, which counts as completed: its text is all there.

        One that is unknown or has ended is left as it is.
        """
        self._inbox.put(_Ending(request_id, FinishReason.STOP))

    def abort(self, request_id: int) -> None:
        """End a request as cancelled; one that is unknown or has ended is left as it is."""
        self._inbox.put(_Ending(request_id, FinishReason.CANCELLED))

    def statistics(self) -> EngineStatistics:
        """Consistent counts of this moment."""
        return self._recorder.snapshot()

    def _run(self) -> None:
        try:
            while not self._stopping():
                self._take_in(block=not self._live and self._stop_at is None)
                self._end_overdue()
                if (plan := self._scheduler.plan()) is not None:
                    self._note_started(plan)
                    self._step(plan)
                elif self._live:
                    raise AssertionError("no sequence can be scheduled")
            self._fail_all("the server is shutting down")
        except Exception as error:
            log.exception("the engine died")
            self.failure = f"{type(error).__name__}: {error}"
            self._fail_all("the engine has died; see the server's log")

    def _stopping(self) -> bool:
        if self._stop_at is None:
            return False
        return time.monotonic() >= self._stop_at or (not self._live and self._inbox.empty())

    def _take_in(self, *, block: bool) -> None:
        """Handle all that has been asked for; with `block`, wait for something first."""
        while True:
            try:
                item = self._inbox.get(block)
            except queue.Empty:
                return
            block = False
            if isinstance(item, Generation):
                drafts = PromptLookup() if self._settings.prompt_lookup else None
                sequence = Sequence(item.request_id, list(item.prompt_tokens), drafts)
                self._live[item.request_id] = _Live(item, sequence, Sampler(item.sampling))
                self._scheduler.add(sequence)
            elif item is not None and (live := self._live.get(item.request_id)) is not None:
                self._end(live, item.reason)

    def _end_overdue(self) -> None:
        if timeout := self._settings.request_timeout:
            oldest = time.time_ns() - int(timeout * 1e9)
            for live in list(self._live.values()):
                if live.generation.timings.submitted_ns < oldest:
                    self._end(
                        live, FinishReason.FAILED, error=f"not finished after {timeout:g} seconds"
                    )

    def _note_started(self, plan: StepPlan) -> None:
        for row in plan.rows:
            generation = self._live[row.sequence.request_id].generation
            if generation.timings.started_ns is None:
                generation.prefix_hit_tokens = row.sequence.prefix_hits
                generation.mark_started()
        self._update_statistics()

    def _step(self, plan: StepPlan) -> None:
        self._step_started = time.monotonic()
        try:
            logits = self._session.run(plan.inputs())
        except Exception as error:
            log.exception("a step failed")
            for row in plan.rows:
                live = self._live[row.sequence.request_id]
                self._end(live, FinishReason.FAILED, error=f"the model's step failed: {error}")
            return
        finally:
            self._step_started = None
        self._scheduler.commit(plan)
        samples = self._sample(plan, logits)
        self._recorder.step_done(sum(len(tokens or ()) for _, tokens in samples))
        for row, tokens in samples:
            live = self._live[row.sequence.request_id]
            if tokens is None:
                self._end(live, FinishReason.FAILED, error="the model's logits are not finite")
            else:
                self._accept(live, row, tokens)

    def _sample(
        self, plan: StepPlan, logits: NDArray[np.float32]
    ) -> list[tuple[PlannedRow, list[int] | None]]:
        """The next tokens of each sampled row, None where its logits are not finite.

        After a guess that is the sampled token the logits behind it are the model's own, so the
        next token is drawn from them: the same draws from the same logits as one by one.
        """
        samples: list[tuple[PlannedRow, list[int] | None]] = []
        at = 0
        for row in plan.sampled:
            live = self._live[row.sequence.request_id]
            tokens: list[int] = []
            try:
                for guess, values in zip_longest(row.draft, logits[at : at + row.logits]):
                    tokens.append(live.sampler.sample(values))
                    if tokens[-1] != guess or self._ending(live.generation, tokens) is not None:
                        break
                samples.append((row, tokens))
            except FloatingPointError:
                samples.append((row, None))
            at += row.logits
        return samples

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
        live.generation.finish(reason, error)
        self._update_statistics(ended=reason)
        if self._observer is not None:
            try:
                self._observer.finished(live.generation)
            except Exception:
                log.exception("the observer failed; the request's metrics may be incomplete")
        live.generation.publish(TokenOutput(token, reason))

    def _fail_all(self, error: str) -> None:
        """End every request, those included that were never taken in."""
        with self._submitting:
            self._accepting = False
        while True:
            for live in list(self._live.values()):
                self._end(live, FinishReason.FAILED, error=error)
            if self._inbox.empty():
                return
            self._take_in(block=False)

    def _update_statistics(self, ended: FinishReason | None = None) -> None:
        self._recorder.update(
            ended=ended,
            active=self._scheduler.running_count,
            pages_used=self._pages.used_count,
            preemptions=self._scheduler.preemptions,
            prefix_hit_tokens=self._scheduler.prefix_hit_tokens,
        )
