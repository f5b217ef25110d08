"""POST /v1/responses, and GET and DELETE of what it has answered."""

from functools import partial

import falcon

from api.access import key_name
from api.active_request import ActiveRequest
from api.completions import OpenAIRequest
from api.dialects.responses.answer import ResponsesWriter
from api.dialects.responses.request import ResponsesRequest
from api.request_body import read_json_body
from api.resources.completions import GeneratingResource
from api.resources.readable import Readable
from api.services import Services
from runtime.finite_json import finite_json


class ResponsesResource(GeneratingResource):
    """POST /v1/responses."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate."""
        services = self._services
        body = read_json_body(req, services.settings.max_body_bytes)
        wanted = ResponsesRequest.parse_continued(body, services.responses, key_name(req))
        self._generate(req, resp, wanted)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> ResponsesWriter:
        assert isinstance(wanted, ResponsesRequest)
        keep = partial(self._services.responses.add, owner=active.owner)
        return ResponsesWriter(active, wanted, keep)


class ResponseResource(Readable):
    """GET and DELETE /v1/responses/{name}: a response that is kept."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Return the response once more."""
        resp.data = finite_json(self._services.responses.get(name, key_name(req)).response)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Forget it."""
        self._services.responses.remove(name, key_name(req))
        resp.data = finite_json({"id": name, "object": "response", "deleted": True})
