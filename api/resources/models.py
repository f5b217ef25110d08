"""GET /models."""

import falcon

from api.resources.readable import Readable
from api.services import Services
from runtime.finite_json import finite_json


class ModelsResource(Readable):
    """GET /models: the GGUF models of this machine and the tokenizer cache."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the models."""
        cache = self._services.cache_statistics()
        resp.data = finite_json(
            {
                "models": list(self._services.models()),
                "tokenizer_cache": {
                    "hits": cache.hits,
                    "misses": cache.misses,
                    "bytes": cache.bytes,
                },
            }
        )
