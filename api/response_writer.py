"""The answer of a request that generates, whole or as a stream."""

from abc import ABC, abstractmethod
from typing import Any

import falcon

from api import sse
from api.active_request import ActiveRequest
from api.completions import OpenAIRequest
from api.services import Services
from api.stream_answer import answer_stream
from runtime.finite_json import finite_json
from runtime.generation import TokenOutput


class ResponseWriter(ABC):
    """Turns the outputs of a request into an answer or its events. Owned by one thread."""

    content_type = sse.CONTENT_TYPE
    """Media type of a stream."""
    ping: bytes | None = sse.PING
    """What an idle stream sends; None for nothing."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest) -> None:
        self._active = active
        self._wanted = wanted
        self.ended = False
        """Whether the last events of a stream were made."""

    def respond(
        self, request: falcon.Request, response: falcon.Response, services: Services
    ) -> None:
        """Make the response the whole answer or its stream; either closes the request."""
        if self._wanted.stream:
            answer_stream(
                request,
                response,
                self._active,
                self,
                services,
                content_type=self.content_type,
                ping=self.ping,
            )
            return
        try:
            response.data = finite_json(self.answer())
        finally:
            self._active.close()

    @abstractmethod
    def answer(self) -> Any:
        """Wait for the end and return the whole answer. Raises GenerationFailed."""

    @abstractmethod
    def __call__(self, index: int, output: TokenOutput) -> bytes:
        """Return the events of one output of the request at this index."""

    @abstractmethod
    def failure(self) -> bytes:
        """Return the end of a stream whose text cannot be made."""
