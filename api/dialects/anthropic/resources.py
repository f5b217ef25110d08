"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages API."""

import msgspec

from api.active_request import ActiveRequest
from api.client import Client
from api.completions import OpenAIRequest
from api.dialects.anthropic.answer import MessagesWriter
from api.dialects.anthropic.request import MessagesRequest
from api.prompts import prompt_tokens
from api.resources.completions import OpenAIResource
from api.resources.tokens import TokenResource
from api.served_models import ServedModel


class MessagesResource(OpenAIResource):
    """POST /v1/messages."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return MessagesRequest.parse(body)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> MessagesWriter:
        return MessagesWriter(active, wanted, f"msg_{request_id}")


class TokenCount(msgspec.Struct, frozen=True):
    """Answer of POST /v1/messages/count_tokens."""

    input_tokens: int


class CountTokensResource(TokenResource):
    """POST /v1/messages/count_tokens: how long the prompt of a message would be."""

    def _answer(self, body: bytes, model: ServedModel, client: Client, name: str) -> TokenCount:
        wanted = MessagesRequest.parse_counted(body).generate
        return TokenCount(len(prompt_tokens(wanted.prompt, wanted, model, client)))
