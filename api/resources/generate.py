"""POST /generate and POST /generate/stream."""

import falcon

from api import sse
from api.answer_text import AnswerText
from api.exchange import Exchange, begin
from api.generation_state import text_decoder
from api.request_body import read_json_body
from api.schemas import GenerateAnswer, GenerateRequest
from api.services import Services
from runtime.finite_json import finite_json


class _GenerateRoute:
    """What both routes share: from an HTTP request to a running generation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _begin(self, request: falcon.Request) -> tuple[Exchange, AnswerText]:
        services = self._services
        wanted = GenerateRequest.parse(read_json_body(request, services.settings.max_body_bytes))
        exchange = begin(services, request, wanted, services.model_for_new_work())
        with exchange.closed_on_failure():
            decoder = text_decoder(exchange.model.tokenizer, wanted.stops)
            return exchange, AnswerText(exchange.generation, decoder, exchange.finish)


class GenerateResource(_GenerateRoute):
    """POST /generate: answers when the whole text is there."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and answer once."""
        exchange, text = self._begin(req)
        try:
            whole = text.whole()
        finally:
            exchange.close()
        generation = exchange.generation
        tokens = generation.tokens[: text.token_count]
        answer = GenerateAnswer(generation.request_id, whole, tokens, True, text.finish_reason)
        resp.data = finite_json(answer)


class GenerateStreamResource(_GenerateRoute):
    """POST /generate/stream: answers token by token."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and send each token as it comes."""
        exchange, text = self._begin(req)
        with exchange.closed_on_failure():
            events = sse.TokenEvents(exchange.generation.request_id, text)
            ping_seconds = self._services.ping_seconds
            sse.answer_stream(req, resp, exchange, events, ping_seconds=ping_seconds)
