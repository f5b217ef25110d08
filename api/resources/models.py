"""GET /models."""

import falcon
import msgspec

from api.resources.readable import Readable
from api.services import Services


class ModelsResource(Readable):
    """GET /models: the GGUF models of this machine and the tokenizer cache."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the models."""
        cache = self._services.cache_statistics()
        resp.data = msgspec.json.encode(
            {
                "models": list(self._services.models()),
                "tokenizer_cache": {
                    "hits": cache.hits,
                    "misses": cache.misses,
                    "bytes": cache.bytes,
                },
            }
        )
