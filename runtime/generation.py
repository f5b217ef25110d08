"""One request as its client sees it: a handle that the engine fills and any thread reads."""

import queue
import threading
import time
from array import array
from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.grammar import Matcher
from runtime.sampling import SamplingParameters, TokenLogprobs
from runtime.thought_limit import ThoughtLimit

NANOSECONDS = 1e9


class FinishReason(StrEnum):
    """Why a request ended."""

    LENGTH = "length"
    STOP = "stop"
    EOS = "eos"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """One output of a request. Only the last has a finish reason; it may have no token."""

    token: int | None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of a request's phases, in nanoseconds of time.monotonic_ns(). Immutable."""

    submitted_ns: int
    submitted_unix_ns: int
    """The same moment in nanoseconds since 1970, from the wall clock."""
    started_ns: int | None = None
    """First scheduled in a step."""
    first_token_ns: int | None = None
    finished_ns: int | None = None

    @classmethod
    def begin(cls) -> "Timings":
        """Return the timings of a request that is submitted now."""
        unix_ns = time.time_ns()  # noqa: TID251
        return cls(submitted_ns=time.monotonic_ns(), submitted_unix_ns=unix_ns)

    def unix_ns(self, moment_ns: int) -> int:
        """Convert one of these moments to nanoseconds since 1970."""
        return self.submitted_unix_ns + moment_ns - self.submitted_ns

    def so_far_ns(self) -> int:
        """Return the end, or the present moment of a request that has not ended."""
        return time.monotonic_ns() if self.finished_ns is None else self.finished_ns

    def age_seconds(self) -> float:
        """Return the seconds since the request was submitted."""
        return (time.monotonic_ns() - self.submitted_ns) / NANOSECONDS


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The parameters of a request to the engine, for one answer. Immutable.

    prompt_tokens: ids [P], P >= 1. max_tokens: most tokens of the answer. ignore_eos: whether to go
    on after an end token. matcher: the state of the answer's grammar
    before its first token. thought_limit: limits its reasoning tokens. The engine owns both from
    now on. context: passed to the observer of the request's end.
    """

    prompt_tokens: tuple[int, ...]
    sampling: SamplingParameters
    max_tokens: int
    ignore_eos: bool = False
    matcher: Matcher | None = None
    thought_limit: ThoughtLimit | None = None
    context: object = None
    top_logprobs: int | None = None
    """Number of likeliest tokens in each token's logprobs; None: no logprobs."""
    prompt_top_logprobs: int | None = None
    """The same for each token of the prompt after the first."""
    cache_salt: bytes = b""
    """Only requests with the same one share pages of a prompt."""
    same_prompt: bool = False
    """Whether its prompt is that of the request before it, whose pages it shares."""


class Generation:
    """A submitted request. The engine's thread writes it; any thread may read it.

    Each field is replaced or appended to in one operation, so a reader sees a consistent, perhaps
    old, state. Outputs are for one consumer.
    """

    def __init__(
        self,
        request_id: int,
        prompt_tokens: tuple[int, ...],
        sampling: SamplingParameters,
        max_tokens: int,
        *,
        ignore_eos: bool = False,
        matcher: Matcher | None = None,
        thought_limit: ThoughtLimit | None = None,
        context: object = None,
        leader: "Generation | None" = None,
        top_logprobs: int | None = None,
        prompt_top_logprobs: int | None = None,
        cache_salt: bytes = b"",
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.ignore_eos = ignore_eos
        self.matcher = matcher
        """The grammar of the answer, until the engine adds the request and owns it."""
        self.thought_limit = thought_limit
        """Limits its reasoning tokens; likewise until the engine adds the request."""
        self.context = context
        """Anything that the submitter needs at the end; the engine does not use it."""
        self.leader = leader
        """A request with the same prompt, whose pages this one waits for."""
        self.top_logprobs = top_logprobs
        self.logprobs: list[TokenLogprobs] = []
        """Those of the generated tokens, if asked for, each before its token is published."""
        self.prompt_top_logprobs = prompt_top_logprobs
        self.prompt_logprobs: list[TokenLogprobs] = []
        """Those of the prompt's tokens from the second on, whole before the first output."""
        self.cache_salt = cache_salt
        """Only requests with the same one share pages of a prompt."""
        self.timings = Timings.begin()
        self.finish_reason: FinishReason | None = None
        self.error: str | None = None
        """The error message of a failed request."""
        self.prefix_hit_tokens = 0
        """Prompt tokens found in the prefix cache and not computed."""
        self.token_times_ns = array("q")
        """time.monotonic_ns() of each generated token; those of one step come at once."""
        self._tokens: list[int] = []
        self._outputs: queue.SimpleQueue[TokenOutput] = queue.SimpleQueue()
        self._ended = threading.Event()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens generated so far."""
        return tuple(self._tokens)

    @property
    def token_count(self) -> int:
        """Number of tokens generated so far."""
        return len(self._tokens)

    @property
    def finished(self) -> bool:
        """Whether the request has ended, for whatever reason."""
        return self.finish_reason is not None

    def next_output(self, timeout: float | None = None) -> TokenOutput | None:
        """Wait for the next output; None after `timeout` seconds without one.

        The output with a finish reason is the last.
        """
        try:
            return self._outputs.get(timeout=timeout)
        except queue.Empty:
            return None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after `timeout` seconds."""
        return self._ended.wait(timeout)

    # The rest is for the engine's thread only.

    def mark_started(self) -> None:
        """Record the first step that includes the request."""
        if self.timings.started_ns is None:
            self.timings = replace(self.timings, started_ns=time.monotonic_ns())

    def append(self, token: int) -> None:
        """Add a generated token."""
        now = time.monotonic_ns()
        if not self._tokens:
            self.timings = replace(self.timings, first_token_ns=now)
        self.token_times_ns.append(now)
        self._tokens.append(token)

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """Set the final state; `publish` then notifies the client."""
        self.timings = replace(self.timings, finished_ns=time.monotonic_ns())
        self.error = error
        self.finish_reason = reason

    def publish(self, output: TokenOutput) -> None:
        """Queue an output for the client."""
        self._outputs.put(output)
        if output.finish_reason is not None:
            self._ended.set()

    def abandon(self, error: str) -> None:
        """Fail the request from another thread when the engine's thread hangs."""
        if not self.finished:
            self.finish(FinishReason.FAILED, error)
            self.publish(TokenOutput(None, FinishReason.FAILED))


class Choice(Generation):
    """One of several requests that a client follows together. Owned as a Generation is."""

    ready: "queue.SimpleQueue[int]"
    """Gets its place with each output."""
    place: int

    def publish(self, output: TokenOutput) -> None:
        """Queue an output for the client, and its place."""
        super().publish(output)
        self.ready.put(self.place)


class Generations:
    """The requests that one client follows, in the order of their submission.

    Their outputs are for one thread.
    """

    def __init__(self, each: tuple[Generation, ...]) -> None:
        """each: one Generation, or several Choices."""
        self.each = each
        self._ready: queue.SimpleQueue[int] | None = None
        self._running = len(each)
        if len(each) > 1:
            self._ready = queue.SimpleQueue()
            for place, generation in enumerate(each):
                assert isinstance(generation, Choice)
                generation.ready, generation.place = self._ready, place

    @property
    def ended(self) -> bool:
        """Whether the last output of every request was returned."""
        return self._running == 0

    def next_output(self, timeout: float | None = None) -> tuple[int, TokenOutput] | None:
        """Wait for the next output of any request; return its place and the output.

        None after `timeout` seconds without one.
        """
        place = 0
        if self._ready is not None:
            try:
                place = self._ready.get(timeout=timeout)
            except queue.Empty:
                return None
        output = self.each[place].next_output(timeout)
        if output is None:
            return None
        if output.finish_reason is not None:
            self._running -= 1
        return place, output
