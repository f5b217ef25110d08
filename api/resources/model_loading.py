"""POST /models/load and POST /models/unload, as llama.cpp's router has them."""

from abc import ABC, abstractmethod

import falcon
import msgspec

from api.client import Client
from api.keys import Scope
from api.request_body import decode, read_json_body
from api.services import Services
from runtime.finite_json import finite_json


class NamedModel(msgspec.Struct, frozen=True):
    """JSON body of both routes."""

    model: str


class _ModelResource(ABC):
    """POST about one model by its name."""

    scope = Scope.ADMIN

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Do it and say so."""
        given = decode(read_json_body(req, self._services.settings.max_body_bytes), NamedModel)
        self._services.pool.find(given.model)
        with self._services.admit(req.context.key):
            self._change(given.model, Client(req))
        resp.data = finite_json({"success": True})

    @abstractmethod
    def _change(self, name: str, client: Client) -> None:
        """Change the state of a model."""


class LoadResource(_ModelResource):
    """POST /models/load: answers when the model is loaded."""

    def _change(self, name: str, client: Client) -> None:
        self._services.pool.lease(name, watch=client.expect_waiting).release()


class UnloadResource(_ModelResource):
    """POST /models/unload: 409 while requests run on the model."""

    def _change(self, name: str, client: Client) -> None:
        self._services.pool.unload(name)
