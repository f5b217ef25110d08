"""GET /requests, GET /status/{request_id} and POST /cancel/{request_id}."""

import re
import time

import falcon
import msgspec

from api.generation_state import answer
from api.request_log import RunningEntry
from api.resources.readable import Readable
from api.schemas import RunningRequest
from api.services import Services
from runtime.errors import EngineUnavailable, InvalidRequest

CANCEL_SECONDS = 60.0
"""How long a cancelled request may take to end: the step it is in has to finish."""
INTEGER = re.compile(r"-?[0-9]{1,18}")


class RequestsResource(Readable):
    """GET /requests: which requests are running."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the running requests, oldest first."""
        now = time.time_ns()
        running = [_describe(entry, now) for entry in self._services.requests.running()]
        resp.data = msgspec.json.encode({"requests": running})


class StatusResource(Readable):
    """GET /status/{request_id}: what a request has generated so far."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Answer the state of one request."""
        model = self._services.holder.ready_model()
        found = self._services.requests.find(parse_request_id(request_id))
        state = found.generation if isinstance(found, RunningEntry) else found
        resp.data = msgspec.json.encode(answer(state, found.tokenizer or model.tokenizer))


class CancelResource:
    """POST /cancel/{request_id}: end a request; one that has ended stays as it is."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Abort, wait for the engine to do so, and answer the final state."""
        model = self._services.holder.ready_model()
        found = self._services.requests.find(parse_request_id(request_id))
        if isinstance(found, RunningEntry):
            self._abort(found)
        state = found.generation if isinstance(found, RunningEntry) else found
        resp.data = msgspec.json.encode(answer(state, found.tokenizer or model.tokenizer))

    @staticmethod
    def _abort(entry: RunningEntry) -> None:
        generation = entry.generation
        entry.model.engine.abort(generation.request_id)
        if not generation.wait(CANCEL_SECONDS):
            raise EngineUnavailable(
                f"request {generation.request_id} will be cancelled, but the engine is busy with a "
                "step; ask for its status later"
            )


def parse_request_id(text: str) -> int:
    """The id in a path.

    Raises InvalidRequest where it is no integer.
    """
    if not INTEGER.fullmatch(text):
        raise InvalidRequest("a request id is an integer")
    return int(text)


def _describe(entry: RunningEntry, now_ns: int) -> RunningRequest:
    generation = entry.generation
    timings = generation.timings
    return RunningRequest(
        generation.request_id,
        entry.x_request_id,
        "queued" if timings.started_ns is None else "active",
        len(generation.prompt_tokens),
        generation.token_count,
        round(max(0, now_ns - timings.submitted_ns) / 1e9, 3),
    )
