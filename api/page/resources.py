"""GET / and its files."""

import mimetypes
from functools import cache
from pathlib import Path

import falcon

from api.resources.readable import Readable

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing from elsewhere, no script or style inside the page, and no text that becomes HTML."""


class PageResource(Readable):
    """GET / and GET /page/{name}: the page and the files that it consists of."""

    scope = None

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str = INDEX) -> None:
        """Return a file of the page. Raises falcon.HTTPNotFound for any other name."""
        if (content := _files().get(name)) is None:
            raise falcon.HTTPNotFound
        resp.set_headers(HEADERS)
        resp.content_type = mimetypes.guess_type(name)[0] or falcon.MEDIA_TEXT
        resp.data = content


@cache
def _files() -> dict[str, bytes]:
    """Return the content of each file by its name."""
    return {path.name: path.read_bytes() for path in FOLDER.iterdir()}
