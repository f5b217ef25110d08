"""Ollama's routes below /api."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import falcon
import msgspec

from api.active_request import ActiveRequest
from api.client import Client
from api.completions import OpenAIRequest
from api.dialects.ollama.answer import OllamaWriter
from api.dialects.ollama.models import listed, loaded, modified, shown
from api.dialects.ollama.request import OllamaBody, OllamaRequest, model_name
from api.keep_alive import seconds_of
from api.model_pool import PooledModel
from api.request_body import decode, read_json_body
from api.resources.completions import GeneratingResource
from api.resources.readable import Readable
from api.served_models import ServedModel
from api.services import Services
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json

API_VERSION = "0.12.6"
"""The version of Ollama whose API is spoken: clients ask for a least one."""


class _Generating(GeneratingResource):
    """POST of a route that generates; without a prompt it says that the model is loaded."""

    chat: bool
    """Whether answers are messages."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Generate."""
        services = self._services
        wanted = self._wanted(read_json_body(req, services.settings.max_body_bytes))
        if not isinstance(wanted, OllamaBody):
            self._generate(req, resp, wanted)
            return
        pool, client = services.pool, Client(req)
        entry, seconds = pool.find(wanted.model), seconds_of(wanted.keep_alive)
        if wanted.unloads:
            pool.keep(wanted.model, 0.0)
        else:
            with services.admit(req.context.key):
                watch = client.expect_waiting
                pool.lease(wanted.model, keep_alive=seconds, watch=watch).release()
        resp.data = finite_json(self._nothing(entry, wanted))

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> OllamaWriter:
        return OllamaWriter(active, wanted, chat=self.chat)

    @abstractmethod
    def _wanted(self, body: bytes) -> OpenAIRequest | OllamaBody:
        """Read a request body; OllamaBody for one without a prompt. Raises InvalidRequest."""

    def _nothing(self, entry: PooledModel, wanted: OllamaBody) -> dict[str, Any]:
        """Return the answer to a request without a prompt."""
        text: dict[str, Any] = {"response": ""}
        if self.chat:
            text = {"message": {"role": "assistant", "content": ""}}
        return {
            "model": entry.name,
            "created_at": modified(entry),
            **text,
            "done": True,
            "done_reason": "unload" if wanted.unloads else "load",
        }


class ChatResource(_Generating):
    """POST /api/chat."""

    chat = True

    def _wanted(self, body: bytes) -> OpenAIRequest | OllamaBody:
        return OllamaRequest.parse_chat(body)


class GenerateResource(_Generating):
    """POST /api/generate."""

    chat = False

    def _wanted(self, body: bytes) -> OpenAIRequest | OllamaBody:
        return OllamaRequest.parse_generate(body)


class TagsResource(Readable):
    """GET /api/tags: the models that can be asked, by their names and aliases."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List them."""
        models = [
            listed(entry, name)
            for entry in self._services.pool.models
            if entry.name is not None
            for name in (entry.name, *entry.aliases)
        ]
        resp.data = finite_json({"models": models})


class RunningResource(Readable):
    """GET /api/ps: the models in memory."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List them."""
        pool = self._services.pool
        models = [
            loaded(entry, model, pool.expires_in(entry))
            for entry in pool.models
            if (model := entry.served.model) is not None
        ]
        resp.data = finite_json({"models": models})


class VersionResource(Readable):
    """GET /api/version."""

    scope = None

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Say which version of the API this is."""
        resp.data = finite_json({"version": API_VERSION})


class NamedBody(msgspec.Struct, frozen=True):
    """A body that names a model, by either name of the field."""

    model: str | None = None
    name: str | None = None


class _OfOneModel(ABC):
    """POST of a route about one model by its name."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer about the model."""
        given = decode(read_json_body(req, self._services.settings.max_body_bytes), NamedBody)
        name = model_name(given.model or given.name)
        if name is None:
            raise InvalidRequest("model is missing", field="model")
        self._services.pool.find(name)
        with self._services.admit(req.context.key), self._services.pool.lease(name) as lease:
            resp.data = finite_json(self._about(lease.model))

    @abstractmethod
    def _about(self, model: ServedModel) -> dict[str, Any]:
        """Return the answer."""


class ShowResource(_OfOneModel):
    """POST /api/show."""

    def _about(self, model: ServedModel) -> dict[str, Any]:
        metadata: Mapping[str, Any] = {}
        for found in self._services.models():
            if found.name == model.name:
                metadata = found.metadata
        return shown(model, metadata)


class PullResource(_OfOneModel):
    """POST /api/pull: the served model is there; others are not fetched."""

    def _about(self, model: ServedModel) -> dict[str, Any]:
        return {"status": "success"}
