"""GET /traces."""

import re

import falcon

from api.keys import Scope
from api.resources.readable import Readable
from api.services import Services
from api.telemetry.trace_json import documented_json, otlp_json
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json

COUNT = re.compile(r"[0-9]{1,18}")


class TracesResource(Readable):
    """GET /traces: the spans of the newest requests."""

    scope = Scope.METRICS

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the newest `limit` traces, and forget all of them with `clear=true`."""
        limit = parse_limit(req.get_param("limit"))
        # HEAD changes nothing.
        clear = parse_clear(req.get_param("clear")) and req.method == "GET"
        as_otlp = parse_format(req.get_param("format"))
        traces = self._services.traces.newest(limit, clear=clear)
        spans = [span for trace in traces for span in trace]
        resp.data = finite_json(otlp_json(spans) if as_otlp else documented_json(spans))


def parse_limit(text: str | None) -> int | None:
    """The number of traces; None for all.

    Raises InvalidRequest for anything but a whole number.
    """
    if text is None:
        return None
    if not COUNT.fullmatch(text):
        raise InvalidRequest("limit must be a whole number, such as ?limit=10")
    return int(text)


def parse_clear(text: str | None) -> bool:
    """Whether to forget the traces.

    Raises InvalidRequest for anything but true and false.
    """
    if text not in (None, "true", "false"):
        raise InvalidRequest("clear must be true or false")
    return text == "true"


def parse_format(text: str | None) -> bool:
    """Whether the official OTLP/JSON mapping is requested.

    Raises InvalidRequest for a format there is not.
    """
    if text not in (None, "otlp"):
        raise InvalidRequest("format must be otlp, or left out for the documented JSON")
    return text == "otlp"
