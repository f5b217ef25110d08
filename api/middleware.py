"""Headers and logging for every response: CORS, X-Request-Id and the access log."""

import re
import uuid
from typing import Any

import falcon

from api.known_fields import header_of
from api.telemetry.logs import AccessEntry

# Browsers do not count Authorization among the headers that `*` covers.
ALLOWED_HEADERS = "*, Authorization, Content-Type, X-Request-Id, traceparent, tracestate"
IGNORED_FIELDS = "X-Ignored-Fields"
"""The header with a body's unknown fields."""
PREFLIGHT_SECONDS = 86400
PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")


class CrossOrigin:
    """Lets pages of every origin call the API."""

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Add the CORS headers."""
        resp.set_header("Access-Control-Allow-Origin", "*")
        resp.set_header(
            "Access-Control-Expose-Headers", f"X-Request-Id, Retry-After, {IGNORED_FIELDS}"
        )
        if req.method == "OPTIONS":
            resp.set_header("Access-Control-Allow-Methods", resp.get_header("Allow") or "*")
            resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))


class AccessLog:
    """Names each request, echoes the name, and logs the request when it has been answered."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create the request's log entry; an invalid X-Request-Id is replaced."""
        given = req.get_header("X-Request-Id") or ""
        name = given if PRINTABLE.fullmatch(given) else uuid.uuid4().hex
        req.context.access = AccessEntry(req.method, req.path, name)
        resp.set_header("X-Request-Id", name)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Write the entry, unless a stream will do so at its own end."""
        entry: AccessEntry = req.context.access
        if entry.ignored_fields:
            resp.set_header(IGNORED_FIELDS, header_of(entry.ignored_fields))
        if not entry.outlives_responder:
            entry.write(resp.status_code)
