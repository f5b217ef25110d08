"""The engine: one thread that turns submitted requests into tokens, step by step."""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as AnySequence
from contextlib import suppress
from dataclasses import dataclass

from runtime.engine_core import EngineCore, EngineObserver, StepRunner
from runtime.errors import EngineUnavailable, QueueFull, SettingsError, WeightsChanged
from runtime.generation import Choice, EngineRequest, FinishReason, Generation, Generations
from runtime.grammar import Matcher
from runtime.logprobs_memory import LogprobsMemory, no_pieces
from runtime.page_changes import PageChanges
from runtime.page_tiers import PageTiers, prefill_socket
from runtime.prefill_server import PrefillServer
from runtime.request_limits import RequestLimits
from runtime.sampling import SamplingParameters
from runtime.settings import Settings
from runtime.statistics import EngineStatistics
from runtime.thought_limit import ThoughtLimit

STOP_SECONDS = 10.0
"""Time to stop after the drain: the running step has to end."""
IDLE_LOOK_SECONDS = 1.0
"""Interval at which an engine without requests checks its weights."""
DIED = "the engine has died; the server's log says why"
STUCK = "the engine hangs and is given up"

log = logging.getLogger("rocmforge.engine")


@dataclass(frozen=True, slots=True)
class _Ending:
    """A command to end a request now."""

    request_id: int
    reason: FinishReason


class Engine:
    """Continuous batching over one session, in a thread of its own.

    `submit`, `finish`, `abort`, `statistics` and the properties may be called from any thread; they
    send commands through a queue to the core, which the engine's thread owns.
    """

    def __init__(
        self,
        session: StepRunner,
        *,
        end_of_generation: frozenset[int],
        settings: Settings,
        observer: EngineObserver | None = None,
        request_ids: Iterator[int] | None = None,
        longest_pieces: Callable[[], AnySequence[int]] = no_pieces,
        page_changes: PageChanges | None = None,
        tiers: PageTiers | None = None,
    ) -> None:
        """Own a session. `request_ids` generates request ids: engines may share it.

        longest_pieces: of the vocabulary, as LogprobsMemory counts them. page_changes: collects
        which pages can be found, for a thread that publishes it. tiers: those beyond the session's
        pool, which this engine owns.
        """
        self._settings = settings
        self._manifest = session.manifest
        self._core = EngineCore(
            session,
            end_of_generation=end_of_generation,
            settings=settings,
            observer=observer,
            page_changes=page_changes,
            tiers=tiers,
        )
        self.limits = RequestLimits(
            vocabulary_size=session.manifest.vocabulary_size,
            trained_context_length=session.manifest.context_length,
            cache_tokens=self._core.cache_tokens,
        )
        self._tiers = tiers
        self._prefills: PrefillServer | None = None
        self._logprobs_memory = LogprobsMemory(settings.logprobs_bytes, longest_pieces)
        self._request_ids = itertools.count(1) if request_ids is None else request_ids
        self._inbox: queue.SimpleQueue[Generation | _Ending | None] = queue.SimpleQueue()
        """Requests to add, requests to end, or None to wake up."""
        self._submitting = threading.Lock()
        self._accepting = False
        self._stop_at: float | None = None
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        """time.monotonic() when the thread began its current round; None while it waits."""
        self.failure: str | None = None
        """Why the engine's thread died, if it did."""
        self.weights_changed: WeightsChanged | None = None
        """Why the engine stopped itself: its weights are no longer those that were loaded."""

    @property
    def capacity(self) -> int:
        """Maximum number of running and waiting requests."""
        return self._settings.max_batch_size + self._settings.max_queue_length

    @property
    def running(self) -> bool:
        """Whether the engine's thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stalled(self) -> bool:
        """Whether the thread has shown no sign of life for `stall_timeout`."""
        began, timeout = self._busy_since, self._settings.stall_timeout
        return began is not None and 0 < timeout < time.monotonic() - began and self.running

    def start(self) -> None:
        """Start the engine's thread."""
        self._accepting = True
        if self._settings.role == "prefill" and self._tiers is not None:
            self._prefills = self._prefill_server(self._tiers)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        if self._prefills is not None:
            self._prefills.start()

    def _prefill_server(self, tiers: PageTiers) -> PrefillServer:
        """Return what takes prompts of others. Raises SettingsError if it cannot listen."""
        path = prefill_socket(self._manifest, self._settings)
        try:
            return PrefillServer(
                lambda request: self.submit_all((request,)).each[0], self.abort, tiers, path
            )
        except OSError as error:
            raise SettingsError(f"no prompts can be taken at {path}: {error.strerror}") from None

    def stop(self, drain_seconds: float = 0.0) -> bool:
        """Refuse new requests, give running ones this time to finish, fail the rest, and return.

        math.inf lets all of them finish. A second call may shorten the time of the first. Returns
        False if the thread did not end within STOP_SECONDS after that: then its clients get a
        failure, and the thread may never end.
        """
        with self._submitting:
            self._accepting = False
            self._stop_at = time.monotonic() + drain_seconds
        self._inbox.put(None)
        log.info("stopping the engine")
        if self._thread is None:
            return True
        self._thread.join(min(drain_seconds + STOP_SECONDS, threading.TIMEOUT_MAX))
        if self._thread.is_alive():
            log.error("the engine does not end; its requests are failed")
            self._abandon()
            return False
        return True

    def submit(
        self,
        prompt_tokens: AnySequence[int],
        sampling: SamplingParameters,
        max_tokens: int,
        *,
        ignore_eos: bool = False,
        matcher: Matcher | None = None,
        thought_limit: ThoughtLimit | None = None,
        context: object = None,
    ) -> Generation:
        """Queue one request: `submit_all` of an EngineRequest."""
        request = EngineRequest(
            tuple(prompt_tokens),
            sampling,
            max_tokens,
            ignore_eos=ignore_eos,
            matcher=matcher,
            thought_limit=thought_limit,
            context=context,
        )
        return self.submit_all((request,)).each[0]

    def submit_all(self, requests: AnySequence[EngineRequest]) -> Generations:
        """Queue requests that one client follows, all of them or none.

        `max_tokens` is clamped to what the context leaves.

        Raises InvalidRequest for a prompt that is empty or has unknown ids;
        ContextLengthExceeded for one that fills the context; QueueFull; EngineUnavailable.
        """
        for request in requests:
            self.limits.check(request)
        with self._submitting:
            if (changed := self.weights_changed) is not None:
                raise WeightsChanged(str(changed))
            if not self._accepting or not self.running:
                raise EngineUnavailable("the engine takes no requests now; try again later")
            if self.stalled:
                raise EngineUnavailable("the engine hangs and takes no requests; try again later")
            if self._core.recorder.unfinished + len(requests) > self.capacity:
                raise QueueFull(
                    f"{self._settings.max_queue_length} requests are waiting already, or would be, "
                    "which is all that --max-queue-length allows; try again later"
                )
            generations = self._generations(requests)
            self._logprobs_memory.take(generations.each)
            for generation in generations.each:
                self._core.recorder.request_submitted()
                self._inbox.put(generation)
        return generations

    def _generations(self, requests: AnySequence[EngineRequest]) -> Generations:
        kind = Generation if len(requests) == 1 else Choice
        made: list[Generation] = []
        leader: Generation | None = None
        for request in requests:
            leader = leader if request.same_prompt else None
            room = self.limits.context_length - len(request.prompt_tokens)
            generation = kind(
                next(self._request_ids),
                request.prompt_tokens,
                request.sampling,
                min(request.max_tokens, room),
                ignore_eos=request.ignore_eos,
                matcher=request.matcher,
                thought_limit=request.thought_limit,
                context=request.context,
                leader=leader,
                top_logprobs=request.top_logprobs,
                prompt_top_logprobs=request.prompt_top_logprobs,
                cache_salt=request.cache_salt,
            )
            leader = leader or generation
            made.append(generation)
        return Generations(tuple(made))

    def finish(self, request_id: int) -> None:
        """End a request as stopped, which counts as completed: its text is complete.

        Does nothing for an unknown or ended one.
        """
        self._inbox.put(_Ending(request_id, FinishReason.STOP))

    def abort(self, request_id: int) -> None:
        """End a request as cancelled; does nothing for an unknown or ended one."""
        self._inbox.put(_Ending(request_id, FinishReason.CANCELLED))

    def statistics(self) -> EngineStatistics:
        """Return consistent counts of this moment."""
        return self._core.recorder.snapshot()

    def _run(self) -> None:
        core = self._core
        try:
            core.start(wake=lambda: self._inbox.put(None))
            while not self._stopping():
                is_idle = core.idle and self._stop_at is None
                self._take_in(block=is_idle or core.awaits_pages)
                if core.idle:  # otherwise each step checks
                    core.check_weights()
                core.end_overdue()
                core.step()
            self._fail_all("the server is shutting down")
        except WeightsChanged as error:
            log.error("the engine stops: %s", error)
            self.weights_changed = error
            core.distrust_pages()
            self._fail_all(str(error))
        except BaseException as error:  # including SystemExit and panics of Rust libraries
            self.failure = f"{type(error).__name__}: {error}"
            log.exception("the engine died")
            self._fail_all(DIED)
        finally:
            if self._prefills is not None:
                self._prefills.close()
            core.end_page_changes()
            core.close()

    def _stopping(self) -> bool:
        if self._stop_at is None:
            return False
        return time.monotonic() >= self._stop_at or (self._core.idle and self._inbox.empty())

    def _take_in(self, *, block: bool) -> None:
        """Handle all queued commands; with `block`, wait some time for the first."""
        self._busy_since = None if block else time.monotonic()
        while block or not self._inbox.empty():
            try:
                item = self._inbox.get(timeout=IDLE_LOOK_SECONDS if block else None)
            except queue.Empty:
                self._busy_since = time.monotonic()
                return
            self._busy_since = time.monotonic()
            block = False
            if isinstance(item, Generation):
                try:
                    self._core.add(item)
                except BaseException:
                    item.abandon(DIED)
                    raise
            elif item is not None:
                self._core.end(item.request_id, item.reason)

    def _fail_all(self, error: str) -> None:
        """End every request, including those not added yet."""
        with self._submitting:
            self._accepting = False
        self._core.fail_all(error)
        while not self._inbox.empty():
            self._take_in(block=False)
            self._core.fail_all(error)

    def _abandon(self) -> None:
        """Fail every request from another thread, because the engine's thread hangs."""
        self._core.abandon(STUCK)
        with suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, Generation):
                    item.abandon(STUCK)
