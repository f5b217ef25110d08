"""The state of the engine's thread: its requests, and one step over them at a time."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from runtime.drafts import PromptLookup
from runtime.errors import WeightsChanged
from runtime.generation import NANOSECONDS, FinishReason, Generation, TokenOutput
from runtime.grammar import GrammarFailed
from runtime.live_request import LiveRequest
from runtime.logprobs import record
from runtime.manifest import Manifest
from runtime.masks import MaskMaker, StepMasks
from runtime.next_tokens import next_tokens, unsound_sequences
from runtime.pace import Pace
from runtime.page_changes import PageChanges
from runtime.page_tiers import PageTiers
from runtime.pages import PageManager
from runtime.plan import PlannedRow, StepPlan
from runtime.sampling import Logits
from runtime.scheduler import Scheduler
from runtime.sequence_states import SequenceStates
from runtime.settings import Settings
from runtime.states import StateSlots
from runtime.statistics import PageTierCounts, StatisticsRecorder
from runtime.step import StepInputs

MAX_FAILED_STEPS = 5
"""Number of failed steps in a row after which the engine counts as broken."""
STEP_FAILED = "the model's step failed; the server's log says why"
OUT_OF_MEMORY = (
    "there was too little memory for the model's step; try again with fewer or shorter requests at "
    "once, or give the server more memory"
)
NOT_FINITE = "the model's logits are not finite"
GRAMMAR_FAILED = "its grammar could not be followed to the end; make it simpler"
REQUEST_FAILED = "its next token could not be chosen; the server's log says why"

log = logging.getLogger("rocmforge.engine")


class StepRunner(Protocol):
    """The part of a session that the engine uses."""

    @property
    def manifest(self) -> Manifest:
        """Manifest of the model."""

    @property
    def page_count(self) -> int:
        """Number of pages of the KV cache."""

    @property
    def state_slot_count(self) -> int:
        """Slots of the pool of states; 0 for a model without states."""

    def check(self) -> None:
        """Raise WeightsChanged if the weights are no longer those that were loaded."""

    def step(self, inputs: StepInputs) -> Logits:
        """Compute one step: logits of R rows to sample from, valid until the next call."""


class EngineObserver(Protocol):
    """Gets each request's end, on the engine's thread, before the client does."""

    def finished(self, generation: Generation) -> None:
        """Record the final state of a request."""


class EngineCore:
    """Requests, scheduler, pages, samplers and session. Owned by the engine thread.

    An exception in one request ends that request, one in a step ends the requests in it. Any
    other exception leaves an unknown state: the engine must end. `recorder` may be read from any
    thread.
    """

    def __init__(
        self,
        session: StepRunner,
        *,
        end_of_generation: frozenset[int],
        settings: Settings,
        observer: EngineObserver | None = None,
        page_changes: PageChanges | None = None,
        tiers: PageTiers | None = None,
    ) -> None:
        self._session = session
        self._end_of_generation = end_of_generation
        self._settings = settings
        self._observer = observer
        self._page_changes = page_changes
        self._tiers = tiers
        self._pages, states = _caches(session, settings, page_changes, tiers)
        self._scheduler = Scheduler(
            self._pages,
            token_budget=settings.token_budget,
            max_running=settings.max_batch_size,
            states=states,
            changes=page_changes,
            tiers=tiers,
        )
        self._pace = Pace(settings.longest_pause)
        self._masks = MaskMaker()
        self._live: dict[int, LiveRequest] = {}
        self._recording: dict[int, Generation] = {}
        """Requests that ask for logprobs."""
        self._reading: dict[int, LiveRequest] = {}
        """Requests that end with their prompt."""
        self.recorder = StatisticsRecorder(
            self._pages.page_count, PageTierCounts if tiers is None else tiers.counts
        )
        self.awaits_pages = False
        """Whether all requests wait for pages from beyond the pool."""
        self._failed_steps = 0
        """Number of failed steps since the last success."""

    @property
    def cache_tokens(self) -> int:
        """Number of tokens that fit into all pages."""
        return self._pages.page_count * self._pages.page_size

    @property
    def idle(self) -> bool:
        """Whether there is no request."""
        return not self._live

    def start(self, wake: Callable[[], None]) -> None:
        """Start what runs beside. `wake` is called when pages come that requests wait for."""
        if self._tiers is not None:
            self._tiers.start(wake)

    def close(self) -> None:
        """End what runs beside, within a bounded time."""
        if self._tiers is not None:
            self._tiers.close()

    def distrust_pages(self) -> None:
        """Remove pages that are kept beyond this engine and may come from changed weights."""
        if self._tiers is not None:
            self._tiers.distrust()

    def add(self, generation: Generation) -> None:
        """Add a submitted request."""
        try:
            drafts = PromptLookup() if self._settings.prompt_lookup else None
            live = LiveRequest.begin(generation, self._end_of_generation, drafts)
        except BaseException:
            log.exception("request %d cannot be added", generation.request_id)
            self._tell_end(generation, FinishReason.FAILED, error=REQUEST_FAILED)
            return
        self._live[generation.request_id] = live
        if (generation.top_logprobs, generation.prompt_top_logprobs) != (None, None):
            self._recording[generation.request_id] = generation
        if not live.sequence.generates:
            self._reading[generation.request_id] = live
        leader = generation.leader and self._live.get(generation.leader.request_id)
        self._scheduler.add(live.sequence, after=leader.sequence if leader else None)

    def end(self, request_id: int, reason: FinishReason) -> None:
        """End a request now; does nothing for an unknown or ended one."""
        if (live := self._live.get(request_id)) is not None:
            self._end(live, reason)

    def end_overdue(self) -> None:
        """Fail the requests that have exceeded `request_timeout`."""
        if timeout := self._settings.request_timeout:
            oldest = time.monotonic_ns() - timeout * NANOSECONDS
            for live in list(self._live.values()):
                if live.generation.timings.submitted_ns < oldest:
                    self._end(
                        live, FinishReason.FAILED, error=f"not finished after {timeout:g} seconds"
                    )

    def fail_all(self, error: str) -> None:
        """End every request as failed, whatever the state of the pages."""
        for live in list(self._live.values()):
            try:
                self._end(live, FinishReason.FAILED, error=error)
            except BaseException:
                log.exception("what request %d held was not freed", live.generation.request_id)

    def abandon(self, error: str) -> None:
        """Send every client a failure and free nothing; see Generation.abandon."""
        for live in list(self._live.values()):
            live.generation.abandon(error)

    def check_weights(self) -> None:
        """Raise WeightsChanged if the weights are no longer those that were loaded."""
        self._session.check()

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, sequences and requests agree."""
        self._scheduler.check_integrity()
        known = {sequence.request_id for sequence in self._scheduler.sequences()}
        if known != set(self._live):
            raise AssertionError("the scheduler's sequences are not those of the requests")

    def step(self) -> None:
        """Plan a step, compute it and distribute its tokens; without requests, do nothing.

        Raises RuntimeError after MAX_FAILED_STEPS failures in a row, and WeightsChanged if the
        weights are no longer those that were loaded.
        """
        # Also without requests: what did not find its place after the last step does now.
        self._hand_over_page_changes()
        plan = self._scheduler.plan(self._pace.patience)
        self.awaits_pages = plan is None and self._scheduler.awaits_pages
        if plan is None:
            if self._live and not self._scheduler.fetching:
                raise AssertionError("no sequence can be scheduled")
            return
        self._note_started(plan)
        began = time.monotonic()
        try:
            with self._masks.beside(plan, self._live) as masks:
                logits = self._session.step(plan.inputs())
            unsound = unsound_sequences(plan, logits)
        except WeightsChanged:
            raise
        except Exception as error:
            log.exception("a step failed")
            self._fail_step(plan, OUT_OF_MEMORY if isinstance(error, MemoryError) else STEP_FAILED)
            return
        self._failed_steps = 0
        self._pace.step_done(time.monotonic() - began, plan.token_count, pauses=plan.pauses)
        self._scheduler.commit(plan, unsound)
        self._hand_over_page_changes()
        self._hand_out(plan, logits, masks)
        if self._reading:
            self._end_read()

    def end_page_changes(self) -> None:
        """Tell whoever follows the pages that they are gone."""
        if self._page_changes is not None:
            self._page_changes.end()

    def _hand_over_page_changes(self) -> None:
        if self._page_changes is not None:
            self._page_changes.hand_over()

    def _fail_step(self, plan: StepPlan, error: str) -> None:
        """End the requests of a step that failed."""
        for row in plan.rows:
            self._end(self._live[row.sequence.request_id], FinishReason.FAILED, error=error)
        self._failed_steps += 1
        if self._failed_steps >= MAX_FAILED_STEPS:
            raise RuntimeError(f"{self._failed_steps} steps failed in a row")

    def _note_started(self, plan: StepPlan) -> None:
        for row in plan.rows:
            generation = self._live[row.sequence.request_id].generation
            if generation.timings.started_ns is None:
                generation.prefix_hit_tokens = row.sequence.prefix_hits
                generation.mark_started()
        self._update_statistics()

    def _hand_out(self, plan: StepPlan, logits: Logits, masks: StepMasks) -> None:
        """Sample all rows, then give each request its tokens."""
        sampled = plan.sampled
        if not (sampled or plan.scored):
            self.recorder.step_done(0)
            return
        samples: list[list[int]] = []
        for row, tokens in zip(
            sampled, next_tokens(sampled, self._live, logits, masks), strict=True
        ):
            samples.append([] if isinstance(tokens, BaseException) else tokens)
            if isinstance(tokens, BaseException):
                self._fail(row, tokens)
        if self._recording:
            for row, failure in record(plan, samples, logits, self._recording):
                if row.samples:
                    samples[sampled.index(row)] = []
                self._fail(row, failure)
        self.recorder.step_done(sum(map(len, samples)))
        for row, tokens in zip(sampled, samples, strict=True):
            if tokens:
                try:
                    self._accept(self._live[row.sequence.request_id], row, tokens)
                except BaseException as problem:
                    self._fail(row, problem)

    def _end_read(self) -> None:
        """End the requests without an answer whose prompt is computed."""
        for live in list(self._reading.values()):
            if live.sequence.has_computed_prompt:
                self._end(live, FinishReason.LENGTH)

    def _fail(self, row: PlannedRow, problem: BaseException) -> None:
        """End the request of a row. Raises `problem` if ending it fails."""
        request_id = row.sequence.request_id
        if (live := self._live.get(request_id)) is None:
            raise problem
        if isinstance(problem, FloatingPointError):
            log.error("the logits of request %d are not finite", request_id)
            error = NOT_FINITE
        elif isinstance(problem, GrammarFailed):
            log.warning("the grammar of request %d failed: %s", request_id, problem)
            error = GRAMMAR_FAILED
        else:
            log.error("request %d failed", request_id, exc_info=problem)
            error = REQUEST_FAILED
        self._end(live, FinishReason.FAILED, error=error)

    def _accept(self, live: LiveRequest, row: PlannedRow, tokens: list[int]) -> None:
        """Give a request its next tokens; it may end with the last of them."""
        generation = live.generation
        reason = live.ending(tokens)
        # All but the last were drafted, so their keys and values are in the pages already.
        self._scheduler.settle(row, len(tokens) - 1)
        for token in tokens:
            live.sequence.tokens.append(token)
            generation.append(token)
        # The last token of a grammar is text; one that stops a request adds none.
        ends_with_text = reason is FinishReason.STOP and (
            tokens[-1] not in generation.sampling.stop_token_ids
        )
        for token in tokens if reason is None or ends_with_text else tokens[:-1]:
            generation.publish(TokenOutput(token))
        if reason is not None:
            self._end(live, reason, None if ends_with_text else tokens[-1])

    def _end(
        self,
        live: LiveRequest,
        reason: FinishReason,
        token: int | None = None,
        *,
        error: str | None = None,
    ) -> None:
        """Free what a request holds, then report its end."""
        request_id = live.generation.request_id
        del self._live[request_id]
        self._recording.pop(request_id, None)
        self._reading.pop(request_id, None)
        try:
            self._scheduler.remove(live.sequence)
        finally:
            self._tell_end(live.generation, reason, token, error=error)

    def _tell_end(
        self,
        generation: Generation,
        reason: FinishReason,
        token: int | None = None,
        *,
        error: str | None = None,
    ) -> None:
        """Count the end of a request, then notify the observer and the client."""
        # Counted first, so that a client that sees the end also sees it counted.
        self._update_statistics(ended=reason)
        generation.finish(reason, error)
        if self._observer is not None:
            try:
                self._observer.finished(generation)
            except BaseException:
                log.exception("the observer failed; the request's metrics may be incomplete")
        generation.publish(TokenOutput(token, reason))

    def _update_statistics(self, ended: FinishReason | None = None) -> None:
        self.recorder.update(
            ended=ended,
            active=self._scheduler.running_count,
            pages_used=self._pages.used_count,
            counted=self._scheduler.counts,
        )


def _caches(
    session: StepRunner,
    settings: Settings,
    changes: PageChanges | None,
    tiers: PageTiers | None,
) -> tuple[PageManager, SequenceStates | None]:
    """Return the managers of the session's pages and of its states, if it has any."""
    forgotten = [] if changes is None else [changes.forgotten]
    if session.state_slot_count == 0:
        evicted = None if tiers is None else tiers.evicted
        return PageManager(session.page_count, settings.page_size, forgotten, evicted), None
    slots = StateSlots(
        session.state_slot_count, running=settings.max_batch_size, pages=session.page_count
    )
    pages = PageManager(session.page_count, settings.page_size, [slots.forget, *forgotten])
    return pages, SequenceStates(slots, settings.page_size)
