"""POST /v1/chat/completions: a conversation, made a prompt by the model's own template."""

from collections.abc import Iterable

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
from api.chat_answer import Addition, AnswerOptions, ChatAnswer
from api.completions import AnswerTokenDetails, OpenAIRequest, Usage
from api.exchange import Exchange
from api.resources.completions import OpenAIResource, OpenAIWriter
from api.tool_calls import ToolCallDelta
from runtime.generation import FinishReason

TOOL_CALLS = "tool_calls"
"""The reason of an end that a call is."""


class ChatCompletionsResource(OpenAIResource):
    """POST /v1/chat/completions."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return ChatRequest.parse(body)

    def _writer(self, exchange: Exchange, wanted: OpenAIRequest, request_id: str) -> OpenAIWriter:
        options = wanted.options if isinstance(wanted, ChatRequest) else AnswerOptions()
        return ChatWriter(exchange, wanted, f"chatcmpl-{request_id}", options)


class ChatWriter(OpenAIWriter):
    """Writes the assistant's answer, or its deltas, of which the first names the role."""

    _begun = False

    def __init__(
        self, exchange: Exchange, wanted: OpenAIRequest, name: str, options: AnswerOptions
    ) -> None:
        self._answer = ChatAnswer(exchange.model, options, exchange.generation.prompt_tokens)
        super().__init__(exchange, wanted, name)

    def _shown(self) -> Iterable[str]:
        return self._answer.marks

    def answer(self) -> ChatCompletion:
        """Wait for the end and give the whole answer. Raises GenerationFailed."""
        for text in self._text.texts():
            self._add(text, ended=False)
        self._add("", ended=True)
        return self._whole("", self._finish_reason)

    def _add(self, text: str, *, ended: bool) -> list[Addition]:
        added = self._answer.add(text, ended=ended)
        if added and self._answer.complete and not ended:
            self._exchange.finish()
        return added

    def _reason(self, reason: str | None) -> str | None:
        return TOOL_CALLS if self._answer.calls and reason == FinishReason.STOP else reason

    def _whole(self, text: str, reason: str | None) -> ChatCompletion:
        answer = self._answer
        message = AssistantMessage(
            content=answer.content or (None if answer.calls else ""),
            reasoning_content=answer.reasoning or msgspec.UNSET,
            reasoning=answer.reasoning or msgspec.UNSET,
            tool_calls=answer.calls or msgspec.UNSET,
        )
        return ChatCompletion(
            id=self._name,
            created=self._created,
            model=self._exchange.model.name,
            choices=(ChatChoice(message=message, finish_reason=self._reason(reason)),),
            usage=self._usage(),
        )

    def _chunk(self, text: str, reason: str | None) -> bytes:
        events = b""
        if not self._begun:
            self._begun = True
            events = self._event(Delta(role="assistant", content=""), None)
        before = len(self._answer.calls)
        for added in self._add(text, ended=reason is not None):
            before += added.call is not None
            events += self._event(_delta(added, before - 1), None)
        return events if reason is None else events + self._event(Delta(), self._reason(reason))

    def _usage(self) -> Usage:
        details = AnswerTokenDetails(self._answer.reasoning_tokens)
        return msgspec.structs.replace(super()._usage(), completion_tokens_details=details)

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


def _delta(added: Addition, index: int) -> Delta:
    """What a chunk adds; `index` is the place of a call among the answer's calls."""
    if added.call is not None:
        call = added.call
        return Delta(tool_calls=(ToolCallDelta(index=index, id=call.id, function=call.function),))
    if added.reasoning:
        return Delta(reasoning_content=added.reasoning, reasoning=added.reasoning)
    return Delta(content=added.content)
