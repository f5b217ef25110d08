"""Ollama's routes below /api."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import falcon
import msgspec

from api.active_request import ActiveRequest
from api.completions import OpenAIRequest
from api.dialects.ollama.answer import OllamaWriter, moment
from api.dialects.ollama.models import listed, loaded, shown
from api.dialects.ollama.request import OllamaBody, OllamaRequest, model_name
from api.request_body import decode, read_json_body
from api.resources.completions import GeneratingResource
from api.resources.readable import Readable
from api.served_models import ServedModel, expect_served
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
        model = services.model_for_new_work()
        if isinstance(wanted, OllamaBody):
            expect_served(model_name(wanted.model), model)
            resp.data = finite_json(self._nothing(model, wanted))
            return
        self._generate(req, resp, wanted, model)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> OllamaWriter:
        return OllamaWriter(active, wanted, chat=self.chat)

    @abstractmethod
    def _wanted(self, body: bytes) -> OpenAIRequest | OllamaBody:
        """Read a request body; OllamaBody for one without a prompt. Raises InvalidRequest."""

    def _nothing(self, model: ServedModel, wanted: OllamaBody) -> dict[str, Any]:
        """Return the answer to a request without a prompt."""
        text: dict[str, Any] = {"response": ""}
        if self.chat:
            text = {"message": {"role": "assistant", "content": ""}}
        return {
            "model": model.name,
            "created_at": moment(model.loaded_at),
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


class _Listing(Readable):
    """GET of a list of models, which has the served one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List it."""
        model = self._services.served.model
        resp.data = finite_json({"models": [] if model is None else [self._entry(model)]})

    @staticmethod
    @abstractmethod
    def _entry(model: ServedModel) -> dict[str, Any]:
        """Describe a model."""


class TagsResource(_Listing):
    """GET /api/tags: the models that can be asked."""

    _entry = staticmethod(listed)


class RunningResource(_Listing):
    """GET /api/ps: the models in memory."""

    _entry = staticmethod(loaded)


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
        model = self._services.served.ready_model()
        expect_served(name, model)
        resp.data = finite_json(self._about(model))

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
