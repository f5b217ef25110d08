"""GET /metrics."""

import falcon

from api.keys import Scope
from api.resources.readable import Readable
from api.services import Services
from api.telemetry.metrics import CONTENT_TYPE


class MetricsResource(Readable):
    """GET /metrics: the Prometheus exposition."""

    scope = Scope.METRICS

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer one scrape."""
        resp.content_type = CONTENT_TYPE
        resp.data = self._services.metrics.exposition()
