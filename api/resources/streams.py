"""GET /streams/{handle}: the rest of a stream."""

import falcon

from api import sse
from api.access import key_name
from api.services import Services
from api.stream_answer import answer_rest


class StreamResource:
    """GET /streams/{handle}: the events after Last-Event-ID of a stream that can be resumed."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, handle: str) -> None:
        """Answer with the events that are left, and those to come."""
        stream = self._services.streams.find(handle, key_name(req))
        answer_rest(req, resp, stream, ping_seconds=self._services.ping_seconds)

    def on_head(self, req: falcon.Request, resp: falcon.Response, handle: str) -> None:
        """Answer whether there is such a stream; its reader goes on."""
        self._services.streams.find(handle, key_name(req))
        resp.content_type = sse.CONTENT_TYPE
