"""GET /openapi.json."""

from functools import cache

import falcon

from api.resources.readable import Readable
from runtime.finite_json import finite_json


class OpenAPIResource(Readable):
    """GET /openapi.json: what every route takes and answers."""

    scope = None

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the document."""
        resp.data = _document()


@cache
def _document() -> bytes:
    # Needed by this route alone.
    from api.openapi.document import document

    return finite_json(document())
