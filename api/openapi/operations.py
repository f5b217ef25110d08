"""What each route takes and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import falcon

from api.chat import ChatBody, ChatCompletion
from api.completions import Completion, CompletionBody
from api.dialects.anthropic.answer import Message
from api.dialects.anthropic.request import MessagesBody
from api.dialects.anthropic.resources import TokenCount
from api.dialects.llama_cpp.answer import Completion as LlamaCppCompletion
from api.dialects.llama_cpp.request import InfillBody, LlamaCppCompletionBody
from api.dialects.ollama.answer import NDJSON
from api.dialects.ollama.embedding import EmbedAnswer, EmbedBody
from api.dialects.ollama.request import OllamaChatBody, OllamaGenerateBody
from api.dialects.ollama.resources import NamedBody
from api.dialects.responses.request import ResponsesBody
from api.embeddings import (
    EmbeddingBody,
    EmbeddingList,
    RankedList,
    RerankBody,
    ScoreBody,
    ScoreList,
)
from api.openapi import shapes
from api.resources.model_loading import NamedModel
from api.resources.openai_models import ModelList, ModelObject
from api.schemas import GenerateAnswer, GenerateBody
from api.sse import CONTENT_TYPE as EVENTS
from api.telemetry.metrics import CONTENT_TYPE as METRICS
from api.tokens import (
    DetokenizeAnswer,
    DetokenizeBody,
    RenderedRequest,
    TemplateAnswer,
    TokenizeAnswer,
    TokenizeBody,
    TokenizerInfo,
)

JSON = falcon.MEDIA_JSON
ROCMFORGE, OPENAI, ANTHROPIC = "ROCmForge", "OpenAI", "Anthropic"
OLLAMA, LLAMA_CPP, TOKENS = "Ollama", "llama.cpp", "Prompts and tokens"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a path or a query. Immutable."""

    name: str
    schema: dict[str, Any]
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Immutable."""

    method: str
    path: str
    summary: str
    tag: str
    answers: tuple[Any, ...] = ()
    """Types that an answer in JSON may have; none for a text."""
    body: type | None = None
    streams: str = ""
    """Media type of its stream, if it has one."""
    media_type: str = JSON
    parameters: Sequence[Parameter] = ()
    statuses: tuple[int, ...] = ()
    """Statuses of errors that only this route has."""
    other: tuple[int, Any] | None = None
    """A status whose answer is no error's, and its type; None for no body."""
    is_open: bool = False
    """Whether it needs no API key."""


LEFT_STREAM = (
    Parameter("handle", {"type": "string"}, "path"),
    Parameter("Last-Event-ID", {"type": "integer", "minimum": 0}, "header"),
)
RESUMABLE = (Parameter("X-Resume-Seconds", {"type": "number", "minimum": 0}, "header"),)


def _get(path: str, summary: str, tag: str, answer: Any = None, **options: Any) -> Operation:
    answers = () if answer is None else (answer,)
    return Operation("get", path, summary, tag, answers, **options)


def _post(
    path: str, summary: str, tag: str, answer: Any, body: type | None = None, **options: Any
) -> Operation:
    types = answer if isinstance(answer, tuple) else () if answer is None else (answer,)
    if options.get("streams") == EVENTS:
        options["parameters"] = RESUMABLE
    return Operation("post", path, summary, tag, types, body, **options)


REQUEST_ID = (Parameter("request_id", {"type": "string"}, "path"),)
NAME = (Parameter("name", {"type": "string"}, "path"),)
FLAG = {"enum": ["true", "false"]}
OF_TRACES = (
    Parameter("limit", {"type": "integer", "minimum": 0}),
    Parameter("clear", FLAG),
    Parameter("format", {"enum": ["otlp"]}),
)

LLAMA_CPP_ANSWERS = (LlamaCppCompletion, list[LlamaCppCompletion], dict[str, Any])
"""Those to one prompt, to several, and the fields that were asked for."""

OPERATIONS: tuple[Operation, ...] = (
    _post("/generate", "Generate a text", ROCMFORGE, GenerateAnswer, GenerateBody),
    _post(
        "/generate/stream",
        "Generate a text, token by token",
        ROCMFORGE,
        None,
        GenerateBody,
        streams=EVENTS,
        media_type=EVENTS,
    ),
    _get(
        "/streams/{handle}",
        "The rest of a stream",
        ROCMFORGE,
        parameters=LEFT_STREAM,
        streams=EVENTS,
        media_type=EVENTS,
        other=(204, None),
    ),
    _get("/requests", "List the running requests", ROCMFORGE, shapes.RequestList),
    _get(
        "/status/{request_id}",
        "The text of a request so far",
        ROCMFORGE,
        GenerateAnswer,
        parameters=REQUEST_ID,
    ),
    _post(
        "/cancel/{request_id}",
        "End a request",
        ROCMFORGE,
        GenerateAnswer,
        parameters=REQUEST_ID,
    ),
    _get("/models", "The GGUF models of this machine", ROCMFORGE, shapes.DiscoveredModels),
    *(
        _post(path, summary, ROCMFORGE, shapes.Success, NamedModel, statuses=(409,))
        for path, summary in (
            ("/models/load", "Load a model"),
            ("/models/unload", "Unload a model that no request runs on"),
        )
    ),
    _get(
        "/health",
        "State of the server",
        ROCMFORGE,
        shapes.Health,
        other=(503, shapes.Health),
        is_open=True,
    ),
    _get("/ready", "Whether new requests are taken", ROCMFORGE, shapes.Ready, is_open=True),
    _get("/metrics", "Metrics for Prometheus", ROCMFORGE, media_type=METRICS),
    _get(
        "/traces",
        "Spans of the newest requests",
        ROCMFORGE,
        shapes.Traces,
        parameters=OF_TRACES,
    ),
    _get("/openapi.json", "This document", ROCMFORGE, dict[str, Any], is_open=True),
    _post(
        "/v1/completions",
        "Complete a prompt",
        OPENAI,
        Completion,
        CompletionBody,
        streams=EVENTS,
    ),
    _post(
        "/v1/chat/completions",
        "Answer a conversation",
        OPENAI,
        ChatCompletion,
        ChatBody,
        streams=EVENTS,
    ),
    _post(
        "/v1/responses",
        "Make a response",
        OPENAI,
        shapes.Response,
        ResponsesBody,
        streams=EVENTS,
    ),
    _get(
        "/v1/responses/{name}",
        "A response that is kept",
        OPENAI,
        shapes.Response,
        parameters=NAME,
    ),
    Operation(
        "delete",
        "/v1/responses/{name}",
        "Forget a response",
        OPENAI,
        (shapes.DeletedResponse,),
        parameters=NAME,
    ),
    _get("/v1/models", "The models that are served", OPENAI, ModelList),
    _get("/v1/models/{name}", "One of them", OPENAI, ModelObject, parameters=NAME),
    _post("/v1/embeddings", "Vectors of texts", OPENAI, EmbeddingList, EmbeddingBody),
    *(
        _post(path, "Rank documents for a query", OPENAI, RankedList, RerankBody)
        for path in ("/v1/rerank", "/rerank")
    ),
    *(
        _post(path, "Score pairs of texts", OPENAI, ScoreList, ScoreBody)
        for path in ("/v1/score", "/score")
    ),
    _post(
        "/v1/messages",
        "Answer a conversation",
        ANTHROPIC,
        Message,
        MessagesBody,
        streams=EVENTS,
    ),
    _post(
        "/v1/messages/count_tokens",
        "Count the tokens of a conversation",
        ANTHROPIC,
        TokenCount,
        MessagesBody,
    ),
    _post(
        "/api/chat",
        "Answer a conversation",
        OLLAMA,
        shapes.OllamaChat,
        OllamaChatBody,
        streams=NDJSON,
    ),
    _post(
        "/api/generate",
        "Answer a prompt",
        OLLAMA,
        shapes.OllamaText,
        OllamaGenerateBody,
        streams=NDJSON,
    ),
    _post("/api/embed", "Vectors of texts", OLLAMA, EmbedAnswer, EmbedBody),
    _get("/api/tags", "The models that can be asked", OLLAMA, shapes.OllamaModels),
    _get("/api/ps", "The models in memory", OLLAMA, shapes.OllamaModels),
    _post("/api/show", "Describe a model", OLLAMA, shapes.OllamaShown, NamedBody),
    _post("/api/pull", "Say whether a model is there", OLLAMA, shapes.OllamaStatus, NamedBody),
    _get("/api/version", "The version of the API", OLLAMA, shapes.OllamaVersion),
    _post(
        "/completion",
        "Complete a prompt",
        LLAMA_CPP,
        LLAMA_CPP_ANSWERS,
        LlamaCppCompletionBody,
        streams=EVENTS,
    ),
    _post(
        "/infill",
        "Fill the gap of a text",
        LLAMA_CPP,
        LLAMA_CPP_ANSWERS,
        InfillBody,
        streams=EVENTS,
        statuses=(501,),
    ),
    _get("/props", "The model and its defaults", LLAMA_CPP, shapes.Props),
    _get(
        "/slots",
        "What is computed now",
        LLAMA_CPP,
        list[shapes.Slot],
        parameters=(Parameter("fail_on_no_slot", {"type": "string"}),),
    ),
    _post("/tokenize", "Tokens of a text", TOKENS, TokenizeAnswer, TokenizeBody),
    _post("/detokenize", "Text of tokens", TOKENS, DetokenizeAnswer, DetokenizeBody),
    _post("/apply-template", "Prompt of a conversation", TOKENS, TemplateAnswer, ChatBody),
    _get("/tokenizer_info", "Special tokens and template", TOKENS, TokenizerInfo),
    _post(
        "/v1/completions/render",
        "Tokens and parameters of a completion",
        TOKENS,
        list[RenderedRequest],
        CompletionBody,
    ),
    _post(
        "/v1/chat/completions/render",
        "Tokens and parameters of a conversation",
        TOKENS,
        RenderedRequest,
        ChatBody,
    ),
)
"""Every operation but HEAD, which is as GET without a body, and OPTIONS."""
