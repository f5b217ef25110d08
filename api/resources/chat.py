"""POST /v1/chat/completions: a conversation, made a prompt by the model's own template."""

import msgspec

from api import sse
from api.chat import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
    Delta,
)
from api.completions import OpenAIRequest, Usage
from api.exchange import Exchange
from api.resources.completions import OpenAIResource, OpenAIWriter


class ChatCompletionsResource(OpenAIResource):
    """POST /v1/chat/completions."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return ChatRequest.parse(body)

    def _writer(self, exchange: Exchange, wanted: OpenAIRequest, request_id: str) -> OpenAIWriter:
        return ChatWriter(exchange, wanted, f"chatcmpl-{request_id}")


class ChatWriter(OpenAIWriter):
    """Writes the assistant's answer, or its deltas, of which the first names the role."""

    _begun = False

    def _whole(self, text: str, reason: str | None) -> ChatCompletion:
        return ChatCompletion(
            id=self._name,
            created=self._created,
            model=self._exchange.model.name,
            choices=(ChatChoice(message=AssistantMessage(text), finish_reason=reason),),
            usage=self._usage(),
        )

    def _chunk(self, text: str, reason: str | None) -> bytes:
        events = b""
        if not self._begun:
            self._begun = True
            events = self._event(Delta(role="assistant", content=""), None)
        if text:
            events += self._event(Delta(content=text), None)
        return events if reason is None else events + self._event(Delta(), reason)

    def _usage_chunk(self) -> bytes:
        return sse.event_bytes(self._completion((), self._usage()))

    def _event(self, delta: Delta, reason: str | None) -> bytes:
        choice = ChunkChoice(delta=delta, finish_reason=reason)
        return sse.event_bytes(self._completion((choice,), self._usage_of_chunks))

    def _completion(
        self, choices: tuple[ChunkChoice, ...], usage: Usage | msgspec.UnsetType | None
    ) -> ChatChunk:
        return ChatChunk(
            id=self._name,
            created=self._created,
            model=self._exchange.model.name,
            choices=choices,
            usage=usage,
        )
