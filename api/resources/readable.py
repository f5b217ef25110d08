"""HEAD wherever there is a GET (RFC 9110, section 9.1)."""

from typing import Any, Protocol

import falcon


class _Get(Protocol):
    def on_get(self, req: falcon.Request, resp: falcon.Response, **parameters: Any) -> None: ...


class Readable:
    """A resource whose GET only reads: HEAD answers the same without its body."""

    def on_head(self: _Get, req: falcon.Request, resp: falcon.Response, **parameters: Any) -> None:
        """Answer as GET does; Falcon leaves the body out."""
        self.on_get(req, resp, **parameters)
