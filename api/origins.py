"""Which pages of browsers may call the API: CORS, and what is refused."""

from typing import Any
from urllib.parse import urlsplit

import falcon

from api.errors import OriginRefused

EVERY = "*"
# Browsers do not count Authorization among the headers that `*` covers.
ALLOWED_HEADERS = "*, Authorization, Content-Type, X-Api-Key, X-Request-Id, traceparent, tracestate"
EXPOSED_HEADERS = "X-Request-Id, X-Request-Handle, X-Resume-Seconds, Retry-After, X-Ignored-Fields"
PREFLIGHT_SECONDS = 86400


def is_foreign(request: falcon.Request) -> bool:
    """Whether a browser's page of another site sends a request."""
    origin = request.get_header("Origin")
    return origin is not None and urlsplit(origin).netloc != request.get_header("Host")


class CrossOrigin:
    """Lets pages of the allowed origins call the API, and refuses the others. Immutable."""

    def __init__(self, allowed: str) -> None:
        """allowed: origins with commas between, or `*` for every one."""
        self._allowed = frozenset(filter(None, (each.strip() for each in allowed.split(","))))

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raise OriginRefused for a page that may not call the API.

        A browser sends a simple request without asking first, and hides only the answer.
        """
        if is_foreign(req) and not self._allows(req):
            raise OriginRefused(
                "pages of this origin may not use the server; --allowed-origins names those that do"
            )

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Add the CORS headers."""
        if EVERY not in self._allowed:
            resp.append_header("Vary", "Origin")
            if not self._allows(req):
                return
            resp.set_header("Access-Control-Allow-Origin", req.get_header("Origin") or "")
        else:
            resp.set_header("Access-Control-Allow-Origin", EVERY)
        resp.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
        if req.method == "OPTIONS":
            resp.set_header("Access-Control-Allow-Methods", resp.get_header("Allow") or "*")
            resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))

    def _allows(self, request: falcon.Request) -> bool:
        return EVERY in self._allowed or request.get_header("Origin") in self._allowed
