"""POST /v1/responses, and GET and DELETE of what it has answered."""

import falcon

from api.active_request import ActiveRequest
from api.completions import OpenAIRequest
from api.dialects.responses.answer import ResponsesWriter
from api.dialects.responses.request import ResponsesRequest
from api.resources.completions import OpenAIResource
from api.resources.readable import Readable
from api.services import Services
from runtime.finite_json import finite_json


class ResponsesResource(OpenAIResource):
    """POST /v1/responses."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return ResponsesRequest.parse_continued(body, self._services.responses)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> ResponsesWriter:
        assert isinstance(wanted, ResponsesRequest)
        return ResponsesWriter(active, wanted, self._services.responses.add)


class ResponseResource(Readable):
    """GET and DELETE /v1/responses/{name}: a response that is kept."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Return the response once more."""
        resp.data = finite_json(self._services.responses.get(name).response)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Forget it."""
        self._services.responses.remove(name)
        resp.data = finite_json({"id": name, "object": "response", "deleted": True})
