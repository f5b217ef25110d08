"""Shapes of what is read or written without a structure of its own.

Only described here, never made: `make openapi-check` holds every real answer against them.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.schemas import DiscoveredModel, RunningRequest


class ChatMessage(msgspec.Struct):
    """A message of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class AnthropicMessage(msgspec.Struct):
    """A message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class RequestList(msgspec.Struct):
    """The running requests, oldest first."""

    requests: list[RunningRequest]


class TokenizerCache(msgspec.Struct):
    """Use of the tokenizer cache."""

    hits: int
    misses: int
    bytes: int


class DiscoveredModels(msgspec.Struct):
    """The GGUF models of this machine."""

    models: list[DiscoveredModel]
    tokenizer_cache: TokenizerCache


class EngineCheck(msgspec.Struct):
    """State of the engine."""

    running: bool
    model_loaded: bool
    reason: str | UnsetType = UNSET


class GpuCheck(msgspec.Struct):
    """State of the GPU."""

    available: bool
    reason: str | UnsetType = UNSET
    memory: dict[str, int] | UnsetType = UNSET


class ModelCheck(msgspec.Struct):
    """The served model."""

    name: str
    version: int | None


class RequestCheck(msgspec.Struct):
    """Numbers of requests."""

    active: int
    queued: int


class CacheCheck(msgspec.Struct):
    """Pages of the KV cache."""

    pages_used: int
    pages_total: int
    pages_free: int
    active_sequences: int


class Checks(msgspec.Struct):
    """Parts of the server; without a model only the first two."""

    engine: EngineCheck
    gpu: GpuCheck
    model: ModelCheck | UnsetType = UNSET
    requests: RequestCheck | UnsetType = UNSET
    cache: CacheCheck | UnsetType = UNSET


class Health(msgspec.Struct):
    """State of the server."""

    status: Literal["healthy", "unhealthy"]
    service: str
    version: str
    checks: Checks


class Ready(msgspec.Struct):
    """New requests are taken."""

    ready: Literal[True]
    service: str


class Traces(msgspec.Struct):
    """Spans, in the documented form or in OTLP's."""

    resource_spans: list[dict[str, Any]] | UnsetType = UNSET
    otlp: list[dict[str, Any]] | UnsetType = msgspec.field(default=UNSET, name="resourceSpans")


class OllamaMessage(msgspec.Struct):
    """A message of the assistant."""

    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class OllamaAnswer(msgspec.Struct):
    """Common fields of Ollama's answers; durations in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class OllamaChat(OllamaAnswer, kw_only=True):
    """Answer of POST /api/chat, or one line of it."""

    message: OllamaMessage


class OllamaText(OllamaAnswer, kw_only=True):
    """Answer of POST /api/generate, or one line of it."""

    response: str
    thinking: str | UnsetType = UNSET


class OllamaModel(msgspec.Struct):
    """A model of GET /api/tags or /api/ps."""

    name: str
    model: str
    size: int
    digest: str
    details: dict[str, Any]


class OllamaModels(msgspec.Struct):
    """The served model, if there is one."""

    models: list[OllamaModel]


class OllamaShown(msgspec.Struct):
    """Description of a model."""

    template: str
    details: dict[str, Any]
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Success(msgspec.Struct):
    """It is done."""

    success: bool


class OllamaStatus(msgspec.Struct):
    """The model is there."""

    status: str


class OllamaVersion(msgspec.Struct):
    """The version of Ollama whose API this is."""

    version: str


class Response(msgspec.Struct):
    """A response of the Responses API."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    previous_response_id: str | None
    metadata: dict[str, Any]


class DeletedResponse(msgspec.Struct):
    """A response that is kept no longer."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class DefaultSettings(msgspec.Struct):
    """Sampling of a request that says nothing, and the context."""

    params: dict[str, Any]
    n_ctx: int


class Props(msgspec.Struct):
    """The model and what requests get by default, in llama.cpp's words."""

    default_generation_settings: DefaultSettings
    total_slots: int
    model_alias: str
    model_path: str
    modalities: dict[str, bool]
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str


class Slot(msgspec.Struct):
    """A place of a batch; with a request in it, its figures too."""

    id: int
    n_ctx: int
    speculative: bool
    is_processing: bool
    id_task: int | UnsetType = UNSET
    n_prompt_tokens: int | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET


class DocumentedError(msgspec.Struct):
    """An error of the documented routes."""

    error: str
    status: Literal["error"]


class OllamaError(msgspec.Struct):
    """An error of Ollama's routes."""

    error: str
