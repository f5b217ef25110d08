"""GET /requests, GET /status/{request_id} and POST /cancel/{request_id}."""

import re
import threading

import falcon

from api.access import key_name
from api.generation_state import answer
from api.request_log import RunningEntry
from api.resources.readable import Readable
from api.schemas import RunningRequest
from api.services import Services
from api.slots import answered_at_once, reserved_threads
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json

CANCEL_SECONDS = 1.0
"""Seconds that an answer may wait for a cancelled request to end: a usual step takes less."""
HANDLE = re.compile(r"[0-9a-f]{32}")
"""What X-Request-Handle has."""
INTEGER = re.compile(r"-?[0-9]{1,18}")


class RequestsResource(Readable):
    """GET /requests: which requests are running."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the running requests, oldest first."""
        running = [_describe(entry) for entry in self._services.requests.running(key_name(req))]
        resp.data = finite_json({"requests": running})


class StatusResource(Readable):
    """GET /status/{request_id}: the text of a request so far."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Answer the state of one request."""
        self._services.pool.expect_any()
        found = self._services.requests.find(parse_request_id(request_id), key_name(req))
        resp.data = finite_json(answer(found))


class CancelResource:
    """POST /cancel/{request_id}: end a request; one that has ended stays as it is."""

    def __init__(self, services: Services) -> None:
        self._services = services
        reserved = reserved_threads(answered_at_once(services.settings))
        self._waits = threading.Semaphore(reserved // 2)
        """Places to wait in: the other reserved threads are left to /health and the like."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Abort and return the state: the final one if the engine's step ends soon."""
        self._services.pool.expect_any()
        found = self._services.requests.find(parse_request_id(request_id), key_name(req))
        if isinstance(found, RunningEntry):
            self._abort(found)
        resp.data = finite_json(answer(found))

    def _abort(self, entry: RunningEntry) -> None:
        entry.abort()
        if self._waits.acquire(blocking=False):
            try:
                entry.generation.wait(CANCEL_SECONDS)
            finally:
                self._waits.release()


def parse_request_id(text: str) -> int | str:
    """The id in a path, or the handle.

    Raises InvalidRequest if it is neither.
    """
    if HANDLE.fullmatch(text):
        return text
    if not INTEGER.fullmatch(text):
        raise InvalidRequest("a request id is an integer")
    return int(text)


def _describe(entry: RunningEntry) -> RunningRequest:
    generation = entry.generation
    timings = generation.timings
    return RunningRequest(
        generation.request_id,
        entry.x_request_id,
        "queued" if timings.started_ns is None else "active",
        len(generation.prompt_tokens),
        generation.token_count,
        round(timings.age_seconds(), 3),
    )
