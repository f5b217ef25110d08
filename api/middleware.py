"""Headers and logging for every response: X-Request-Id, X-Request-Handle and the access log."""

import re
import uuid
from typing import Any

import falcon

from api.known_fields import header_of
from api.telemetry.logs import AccessEntry

IGNORED_FIELDS = "X-Ignored-Fields"
"""The header with a body's unknown fields."""
REQUEST_HANDLE = "X-Request-Handle"
"""The header with a name of a request, for /status and /cancel, that nobody guesses."""
PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")


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
        if entry.handle is not None:
            resp.set_header(REQUEST_HANDLE, entry.handle)
        if entry.ignored_fields:
            resp.set_header(IGNORED_FIELDS, header_of(entry.ignored_fields))
        if not entry.outlives_responder:
            entry.write(resp.status_code)
