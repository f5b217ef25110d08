"""Requests by id: the running ones, and those that ended not long ago."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from api.errors import RequestNotFound
from api.served_models import ServedModel
from runtime.generation import FinishReason, Generation
from runtime.tokenizer import Tokenizer

NEWEST_FINISHED = 1000
KEPT_SECONDS = 600.0


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The record of an ended request. Immutable."""

    request_id: int
    tokens: tuple[int, ...]
    finish_reason: FinishReason | None
    ended_at: float
    """On the log's clock."""
    tokenizer: Tokenizer | None = None
    """The tokenizer of its tokens; None until `add`, when it is found."""
    stops: tuple[str, ...] = ()
    """Strings before which its text ends; none until `add`."""
    owner: str | None = None
    """Name of the API key that began it; None until `add`, and where keys are off."""
    handle: str = ""
    """Its name that nobody guesses; none until `add`."""


@dataclass(frozen=True, slots=True)
class RunningEntry:
    """A running request and its X-Request-Id. Immutable."""

    generation: Generation
    x_request_id: str
    model: ServedModel
    stops: tuple[str, ...] = ()
    """Strings before which its text ends."""
    abort: Callable[[], None] = _nothing
    """Aborts all requests submitted together with it."""
    owner: str | None = None
    """Name of the API key that began it; None where keys are off."""
    handle: str = ""
    """Its name that nobody guesses."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of its tokens."""
        return self.model.tokenizer


class RequestLog:
    """Finds requests by their id. Any thread may call any method.

    An ended request stays readable while it is among the newest 1000 and younger than 10 minutes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[int, RunningEntry] = {}
        self._ids: dict[str, int] = {}
        """Ids by handles."""
        self._finished: OrderedDict[int, FinishedRequest] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self,
        generation: Generation,
        x_request_id: str,
        model: ServedModel,
        stops: tuple[str, ...] = (),
        abort: Callable[[], None] = _nothing,
        *,
        owner: str | None = None,
        handle: str = "",
    ) -> None:
        """Add a request that was just submitted to a model; it may have ended already."""
        entry = RunningEntry(generation, x_request_id, model, stops, abort, owner, handle)
        with self._lock:
            if handle:
                self._ids[handle] = generation.request_id
            ended = self._finished.get(generation.request_id)
            if ended is not None:
                self._finished[ended.request_id] = _completed(ended, entry)
            elif not generation.wait(0):
                self._running[generation.request_id] = entry

    def finished(self, generation: Generation) -> None:
        """Keep the result of an ended request instead of its handle."""
        result = FinishedRequest(
            generation.request_id, generation.tokens, generation.finish_reason, self._clock()
        )
        with self._lock:
            entry = self._running.pop(generation.request_id, None)
            if entry is not None:
                result = _completed(result, entry)
            self._finished[result.request_id] = result
            self._drop_old()

    def running(self, owner: str | None = None) -> list[RunningEntry]:
        """The requests of one API key that have not ended, oldest first."""
        with self._lock:
            return [entry for entry in self._running.values() if entry.owner == owner]

    def find(self, name: int | str, owner: str | None = None) -> RunningEntry | FinishedRequest:
        """The request of this id or handle, if the API key of this name began it.

        Raises RequestNotFound if there is none, or it ended too long ago.
        """
        with self._lock:
            self._drop_old()
            request_id = self._ids.get(name, 0) if isinstance(name, str) else name
            found = self._finished.get(request_id) or self._running.get(request_id)
        if found is None or found.tokenizer is None or found.owner != owner:
            raise RequestNotFound(
                f"no request has the id {name}, or it ended more than "
                f"{KEPT_SECONDS / 60:.0f} minutes or {NEWEST_FINISHED} requests ago"
            )
        return found

    def _drop_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._finished:
            first = next(iter(self._finished.values()))
            if len(self._finished) <= NEWEST_FINISHED and first.ended_at >= oldest:
                return
            self._finished.popitem(last=False)
            self._ids.pop(first.handle, None)


def _completed(ended: FinishedRequest, entry: RunningEntry) -> FinishedRequest:
    """Return the record with what `add` was given.

    Not the model itself, which may have been replaced and should be freed.
    """
    return replace(
        ended,
        tokenizer=entry.tokenizer,
        stops=entry.stops,
        owner=entry.owner,
        handle=entry.handle,
    )
