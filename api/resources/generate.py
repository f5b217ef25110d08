"""POST /generate and POST /generate/stream."""

import falcon

from api import sse
from api.active_request import ActiveRequest, begin
from api.answer_text import AnswerText
from api.generation_state import text_decoder
from api.request_body import read_json_body
from api.schemas import GenerateAnswer, GenerateRequest
from api.services import Services
from api.stream_answer import answer_stream
from runtime.finite_json import finite_json


class _GenerateRoute:
    """The common part of both routes: from an HTTP request to a running generation."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _begin(self, request: falcon.Request) -> tuple[ActiveRequest, AnswerText]:
        services = self._services
        wanted = GenerateRequest.parse(read_json_body(request, services.settings.max_body_bytes))
        active = begin(services, request, wanted)
        with active.closed_on_failure():
            decoder = text_decoder(active.model.tokenizer, wanted.stops)
            return active, AnswerText(active.generation, decoder, active.finish)


class GenerateResource(_GenerateRoute):
    """POST /generate: responds when the text is complete."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and answer once."""
        active, text = self._begin(req)
        try:
            whole = text.whole()
        finally:
            active.close()
        generation = active.generation
        tokens = generation.tokens[: text.token_count]
        answer = GenerateAnswer(generation.request_id, whole, tokens, True, text.finish_reason)
        resp.data = finite_json(answer)


class GenerateStreamResource(_GenerateRoute):
    """POST /generate/stream: answers token by token."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate and stream each token."""
        active, text = self._begin(req)
        with active.closed_on_failure():
            events = sse.TokenEvents(active.generation.request_id, text)
            answer_stream(req, resp, active, events, self._services)
