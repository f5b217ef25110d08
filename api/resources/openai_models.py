"""GET /v1/models and GET /v1/models/{name} of OpenAI's API."""

from datetime import UTC, datetime

import falcon
import msgspec

from api.resources.readable import Readable
from api.served_models import ServedModel, expect_served
from api.services import Services
from runtime.finite_json import finite_json


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """llama.cpp's description of a model."""

    n_ctx: int
    """Maximum tokens of a request, as `max_model_len`."""
    n_ctx_train: int
    """The model's own limit, which may be above that of the KV cache."""
    n_vocab: int


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model as GET /v1/models lists it: OpenAI's fields, and Anthropic's beside them."""

    id: str
    object: str = "model"
    type: str = "model"
    display_name: str
    created: int
    created_at: str
    """The same moment, as RFC 3339."""
    owned_by: str = "rocmforge"
    max_model_len: int
    """Maximum tokens of a request, prompt and answer together; vLLM's name."""
    task: str
    """What it does: generate, embed or score."""
    meta: ModelFigures
    accepted_checks: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET
    """Checks that the model failed and was published in spite of, with what they measured."""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /v1/models."""

    object: str = "list"
    data: tuple[ModelObject, ...]
    has_more: bool = False
    first_id: str | None
    last_id: str | None


class OpenAIModelsResource(Readable):
    """GET /v1/models: the model that is served, if there is one."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List it."""
        model = self._services.served.model
        listed = () if model is None else (_describe(model),)
        first = listed[0].id if listed else None
        resp.data = finite_json(ModelList(data=listed, first_id=first, last_id=first))


class OpenAIModelResource(Readable):
    """GET /v1/models/{name}."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Describe the model of that name."""
        model = self._services.served.ready_model()
        expect_served(name, model)
        resp.data = finite_json(_describe(model))


def _describe(model: ServedModel) -> ModelObject:
    engine = model.engine
    return ModelObject(
        id=model.name,
        display_name=model.name,
        created=model.loaded_at,
        created_at=datetime.fromtimestamp(model.loaded_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        task=_task(model),
        max_model_len=engine.limits.context_length,
        meta=ModelFigures(
            n_ctx=engine.limits.context_length,
            n_ctx_train=engine.limits.trained_context_length,
            n_vocab=engine.limits.vocabulary_size,
        ),
        accepted_checks=model.accepted_checks or msgspec.UNSET,
    )


def _task(model: ServedModel) -> str:
    """Return what the model does: generate, embed or score."""
    if model.embedding is None:
        return "generate"
    return "score" if model.embedding.pooled.scores else "embed"
