"""POST /generate and POST /generate/stream."""

import falcon
import msgspec

from api import sse
from api.errors import GenerationFailed
from api.exchange import Exchange, begin
from api.generation_state import answer, text_decoder
from api.request_body import read_json_body
from api.schemas import GenerateRequest
from api.services import Services
from runtime.generation import FinishReason


class _GenerateRoute:
    """What both routes share: from an HTTP request to a running generation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _begin(self, request: falcon.Request) -> Exchange:
        services = self._services
        wanted = GenerateRequest.parse(read_json_body(request, services.settings.max_body_bytes))
        return begin(services, request, wanted, services.model_for_new_work())


class GenerateResource(_GenerateRoute):
    """POST /generate: answers when the whole text is there."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and answer once."""
        exchange = self._begin(req)
        generation = exchange.generation
        try:
            generation.wait()
        finally:
            exchange.close()
        if generation.finish_reason is FinishReason.FAILED:
            raise GenerationFailed(f"the generation failed: {generation.error}")
        resp.data = msgspec.json.encode(answer(generation, exchange.model.tokenizer))


class GenerateStreamResource(_GenerateRoute):
    """POST /generate/stream: answers token by token."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and send each token as it comes."""
        exchange = self._begin(req)
        with exchange.closed_on_failure():
            decoder = text_decoder(exchange.model.tokenizer)
            events = sse.TokenEvents(exchange.generation.request_id, decoder)
            ping_seconds = self._services.ping_seconds
            sse.answer_stream(req, resp, exchange, events, ping_seconds=ping_seconds)
