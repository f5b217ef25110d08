"""POST /generate and POST /generate/stream."""

from collections.abc import Callable
from dataclasses import replace

import falcon
import msgspec

from api import sse
from api.errors import GenerationFailed
from api.generation_state import answer, text_decoder
from api.holder import ServedModel
from api.schemas import GenerateRequest
from api.services import Services
from api.telemetry.logs import AccessEntry
from api.telemetry.tracing import remote_parent
from runtime.errors import InvalidRequest, QueueFull
from runtime.generation import FinishReason, Generation

WATCH_CLIENT = "rocmforge.watch_client"
"""Key of the WSGI environment: calls a function as soon as the client is gone (see server)."""


class _Exchange:
    """One generation request over HTTP: its slot, its Generation and its line in the log.

    Owned by the thread that answers; only `abort` is called from others.
    """

    def __init__(
        self, services: Services, model: ServedModel, generation: Generation, entry: AccessEntry
    ) -> None:
        self.generation = generation
        self._services = services
        self._engine = model.engine
        self._entry = entry

    def abort(self) -> None:
        """End the request where it is, so that its pages are free in the engine's next step."""
        self._engine.abort(self.generation.request_id)

    def close(self) -> None:
        """Let go of the request; one that is still running has lost its client."""
        if not self.generation.finished:
            self.abort()
        self._services.tracer.forget(self.generation.request_id)
        self._services.slots.release()
        if self._entry.outlives_responder:
            self._entry.write(200)


class _GenerateRoute:
    """What both routes share: from an HTTP request to a running generation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _begin(self, request: falcon.Request) -> tuple[_Exchange, ServedModel]:
        services = self._services
        entry: AccessEntry = request.context.access
        wanted = GenerateRequest.parse(read_json_body(request, services.settings.max_body_bytes))
        if services.settings.log_prompts:
            entry.prompt = wanted.prompt
        parent = remote_parent(_lower_case_headers(request))
        model = services.model_for_new_work()
        if not services.slots.acquire():
            raise QueueFull(
                f"all {services.slots.count} generation requests that this server answers at once "
                "are busy; try again later"
            )
        try:
            generation = _submit(model, wanted)
        except BaseException:
            services.slots.release()
            raise
        exchange = _Exchange(services, model, generation, entry)
        entry.generation = generation
        if parent is not None:
            services.tracer.adopt(generation.request_id, parent)
        services.requests.add(generation, entry.x_request_id)
        watch: Callable[[Callable[[], None]], None] | None = request.env.get(WATCH_CLIENT)
        if watch is not None:
            watch(exchange.abort)
        return exchange, model


class GenerateResource(_GenerateRoute):
    """POST /generate: answers when the whole text is there."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and answer once."""
        exchange, model = self._begin(req)
        try:
            exchange.generation.wait()
        finally:
            exchange.close()
        generation = exchange.generation
        if generation.finish_reason is FinishReason.FAILED:
            raise GenerationFailed(f"the generation failed: {generation.error}")
        resp.data = msgspec.json.encode(answer(generation, model.tokenizer))


class GenerateStreamResource(_GenerateRoute):
    """POST /generate/stream: answers token by token."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and send each token as it comes."""
        exchange, model = self._begin(req)
        req.context.access.outlives_responder = True
        resp.content_type = sse.CONTENT_TYPE
        resp.set_header("Cache-Control", "no-cache")
        # Proxies such as nginx would otherwise collect the events.
        resp.set_header("X-Accel-Buffering", "no")
        resp.stream = sse.EventStream(
            exchange.generation,
            text_decoder(model.tokenizer),
            ping_seconds=self._services.ping_seconds,
            on_close=exchange.close,
        )


def _submit(model: ServedModel, wanted: GenerateRequest) -> Generation:
    sampling = wanted.sampling
    if sampling.top_k > model.engine.vocabulary_size:
        sampling = replace(sampling, top_k=model.engine.vocabulary_size)
    tokens = model.tokenizer.encode(wanted.prompt)
    return model.engine.submit(tokens, sampling, wanted.max_tokens)


def read_json_body(request: falcon.Request, most_bytes: int) -> bytes:
    """The body of a request that says it is JSON, or says nothing.

    Raises falcon.HTTPContentTooLarge, falcon.HTTPUnsupportedMediaType or InvalidRequest.
    """
    media_type = (request.content_type or falcon.MEDIA_JSON).partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_JSON:
        raise falcon.HTTPUnsupportedMediaType(
            description="send the body as JSON, with Content-Type: application/json"
        )
    body = request.bounded_stream.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise falcon.HTTPContentTooLarge(
            description=f"the request body is larger than {most_bytes} bytes"
        )
    if not body:
        raise InvalidRequest('the request has no body; send JSON such as {"prompt": "Hello"}')
    return body


def _lower_case_headers(request: falcon.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
