"""The Falcon application: every route of the API document, and OpenAI's under /v1."""

import falcon

from api import error_handlers
from api.access import Access
from api.dialects.anthropic.resources import CountTokensResource, MessagesResource
from api.dialects.llama_cpp import resources as llama_cpp
from api.dialects.ollama import resources as ollama
from api.dialects.ollama.embedding import EmbedResource
from api.dialects.responses.resources import ResponseResource, ResponsesResource
from api.middleware import AccessLog
from api.openapi.resource import OpenAPIResource
from api.origins import CrossOrigin
from api.page.resources import PageResource
from api.resources.chat import ChatCompletionsResource
from api.resources.completions import CompletionsResource
from api.resources.embeddings import EmbeddingsResource, RerankResource, ScoreResource
from api.resources.generate import GenerateResource, GenerateStreamResource
from api.resources.health import HealthResource, ReadyResource
from api.resources.metrics import MetricsResource
from api.resources.model_loading import LoadResource, UnloadResource
from api.resources.models import ModelsResource
from api.resources.openai_models import OpenAIModelResource, OpenAIModelsResource
from api.resources.requests import CancelResource, RequestsResource, StatusResource
from api.resources.streams import StreamResource
from api.resources.tokens import (
    ApplyTemplateResource,
    DetokenizeResource,
    RenderChatResource,
    RenderCompletionResource,
    TokenizeResource,
    TokenizerInfoResource,
)
from api.resources.traces import TracesResource
from api.services import Services


def create_app(services: Services) -> error_handlers.Application:
    """The WSGI application over the given services. Reads nothing else and starts nothing."""
    app: error_handlers.Application = falcon.App(media_type=falcon.MEDIA_JSON)
    app.req_options.strip_url_path_trailing_slash = True
    app.add_middleware(AccessLog())
    app.add_middleware(CrossOrigin(services.settings.allowed_origins))
    app.add_middleware(Access(services.keys))
    error_handlers.install(app)
    app.add_route("/", PageResource())
    app.add_route("/page/{name}", PageResource())
    app.add_route("/generate", GenerateResource(services))
    app.add_route("/generate/stream", GenerateStreamResource(services))
    app.add_route("/streams/{handle}", StreamResource(services))
    app.add_route("/requests", RequestsResource(services))
    app.add_route("/status/{request_id}", StatusResource(services))
    app.add_route("/cancel/{request_id}", CancelResource(services))
    app.add_route("/models", ModelsResource(services))
    app.add_route("/models/load", LoadResource(services))
    app.add_route("/models/unload", UnloadResource(services))
    app.add_route("/health", HealthResource(services))
    app.add_route("/ready", ReadyResource(services))
    app.add_route("/metrics", MetricsResource(services))
    app.add_route("/traces", TracesResource(services))
    app.add_route("/openapi.json", OpenAPIResource())
    app.add_route("/v1/completions", CompletionsResource(services))
    app.add_route("/v1/chat/completions", ChatCompletionsResource(services))
    app.add_route("/v1/responses", ResponsesResource(services))
    app.add_route("/v1/responses/{name}", ResponseResource(services))
    app.add_route("/v1/messages", MessagesResource(services))
    app.add_route("/v1/messages/count_tokens", CountTokensResource(services))
    app.add_route("/api/chat", ollama.ChatResource(services))
    app.add_route("/api/generate", ollama.GenerateResource(services))
    app.add_route("/api/embed", EmbedResource(services))
    app.add_route("/api/tags", ollama.TagsResource(services))
    app.add_route("/api/ps", ollama.RunningResource(services))
    app.add_route("/api/show", ollama.ShowResource(services))
    app.add_route("/api/pull", ollama.PullResource(services))
    app.add_route("/api/version", ollama.VersionResource())
    app.add_route("/completion", llama_cpp.CompletionResource(services))
    app.add_route("/infill", llama_cpp.InfillResource(services))
    app.add_route("/props", llama_cpp.PropsResource(services))
    app.add_route("/slots", llama_cpp.SlotsResource(services))
    app.add_route("/v1/embeddings", EmbeddingsResource(services))
    for path in ("/v1/rerank", "/rerank"):
        app.add_route(path, RerankResource(services))
    for path in ("/v1/score", "/score"):
        app.add_route(path, ScoreResource(services))
    app.add_route("/v1/completions/render", RenderCompletionResource(services))
    app.add_route("/v1/chat/completions/render", RenderChatResource(services))
    app.add_route("/tokenize", TokenizeResource(services))
    app.add_route("/tokenizer_info", TokenizerInfoResource(services))
    app.add_route("/detokenize", DetokenizeResource(services))
    app.add_route("/apply-template", ApplyTemplateResource(services))
    app.add_route("/v1/models", OpenAIModelsResource(services))
    app.add_route("/v1/models/{name:path}", OpenAIModelResource(services))
    return app
