"""GET /v1/models and GET /v1/models/{name} of OpenAI's API."""

from datetime import UTC, datetime

import falcon
import msgspec

from api.model_pool import PooledModel
from api.resources.readable import Readable
from api.served_models import ModelStatus, ServedModel
from api.services import Services
from runtime.finite_json import finite_json
from runtime.manifest import Pooled
from runtime.request_limits import RequestLimits
from runtime.settings import CPU_CACHE_TOKENS, Settings

STATES = {
    ModelStatus.NONE: "unloaded",
    ModelStatus.UNLOADED: "unloaded",
    ModelStatus.LOADING: "loading",
    ModelStatus.READY: "loaded",
    ModelStatus.FAILED: "failed",
}


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """llama.cpp's description of a model."""

    n_ctx: int
    """Maximum tokens of a request, as `max_model_len`."""
    n_ctx_train: int
    """The model's own limit, which may be above that of the KV cache."""
    n_vocab: int


class ModelState(msgspec.Struct, frozen=True):
    """Whether a model is in memory; the form is llama.cpp's."""

    value: str
    """loaded, loading, unloaded (a request loads it) or failed (a request tries again)."""


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
    root: str
    """The model's own name, of which `id` may be an alias."""
    status: ModelState
    max_model_len: int
    """Maximum tokens of a request, prompt and answer together; vLLM's name."""
    task: str
    """What it does: generate, embed or score."""
    quantization: str | None
    """The block format that most bytes of its weights have; null where unknown."""
    kl_divergence: float | None
    """From the exact model, nats a token; null where it was not measured."""
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
    """GET /v1/models: the models that may be asked, each by its name and its aliases."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List them."""
        settings = self._services.settings
        listed = tuple(
            _describe(entry, name, settings)
            for entry in self._services.pool.models
            if entry.name is not None
            for name in (entry.name, *entry.aliases)
        )
        first, last = (listed[0].id, listed[-1].id) if listed else (None, None)
        resp.data = finite_json(ModelList(data=listed, first_id=first, last_id=last))


class OpenAIModelResource(Readable):
    """GET /v1/models/{name}."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Describe the model of that name."""
        pool, settings = self._services.pool, self._services.settings
        pool.expect_any()
        resp.data = finite_json(_describe(pool.find(name), name, settings))


def _describe(entry: PooledModel, name: str, settings: Settings) -> ModelObject:
    model, published = entry.served.model, entry.published
    if model is not None:
        limits, created, pooled = model.engine.limits, model.loaded_at, _pooled(model)
    else:
        assert published is not None, "only what can be loaded is listed unloaded"
        manifest = published.manifest
        limits = RequestLimits(
            vocabulary_size=manifest.vocabulary_size,
            trained_context_length=manifest.context_length,
            cache_tokens=settings.cache_tokens or CPU_CACHE_TOKENS,
        )
        created = int(datetime.fromisoformat(manifest.created_at).timestamp())
        pooled = manifest.pooled
    return ModelObject(
        id=name,
        display_name=name,
        root=entry.name or name,
        status=ModelState(STATES[entry.served.status]),
        created=created,
        created_at=datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        task=_task(pooled),
        max_model_len=limits.context_length,
        quantization=described.quantization if (described := entry.manifest) else None,
        kl_divergence=described.divergence if described else None,
        meta=ModelFigures(
            n_ctx=limits.context_length,
            n_ctx_train=limits.trained_context_length,
            n_vocab=limits.vocabulary_size,
        ),
        accepted_checks=entry.accepted_checks or msgspec.UNSET,
    )


def _pooled(model: ServedModel) -> Pooled | None:
    return None if model.embedding is None else model.embedding.pooled


def _task(pooled: Pooled | None) -> str:
    """Return what a model does: generate, embed or score."""
    if pooled is None:
        return "generate"
    return "score" if pooled.scores else "embed"
