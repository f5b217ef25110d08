"""POST /v1/chat/completions: a conversation, made a prompt by the model's own template."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from api.active_request import ActiveRequest
from api.answer_options import AnswerOptions
from api.chat import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
    Delta,
)
from api.chat_answer import Addition, ChatAnswer
from api.completions import AnswerTokenDetails, OpenAIRequest, Usage
from api.openai_answer import ChoiceReader, OpenAIWriter
from api.resources.completions import OpenAIResource
from runtime.generation import FinishReason, TokenOutput
from runtime.sampling import TokenLogprobs

TOOL_CALLS = "tool_calls"
"""The reason of an end that a call is, unless the request names the tool: as OpenAI has it."""


class ChatCompletionsResource(OpenAIResource):
    """POST /v1/chat/completions."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return ChatRequest.parse(body)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> OpenAIWriter[Any]:
        options = wanted.generate.options or AnswerOptions()
        return ChatWriter(active, wanted, f"chatcmpl-{request_id}", options)


class ChatReader(ChoiceReader):
    """Reads one answer of the assistant; of its deltas the first names the role."""

    _begun = False
    _finished = False
    """Whether the answer was complete before its generation ended."""

    def __init__(
        self, active: ActiveRequest, wanted: OpenAIRequest, index: int, options: AnswerOptions
    ) -> None:
        prompt = active.generations.each[index].prompt_tokens
        self.answer = ChatAnswer(active.model, options, prompt)
        self._logprobs: list[TokenLogprobs] = []
        """Those that no choice has shown yet."""
        super().__init__(active, wanted, index)

    def _shown(self) -> Iterable[str]:
        return self.answer.marks

    @property
    def may_finish(self) -> bool:
        """Whether the request may be finished for its calls."""
        return self.answer.may_complete

    def take(self, output: TokenOutput) -> None:
        """Add an output of an answer that is not streamed."""
        self.additions(output)

    def additions(self, output: TokenOutput) -> list[Addition]:
        """Add an output and return what it adds to the answer."""
        before = self.text.token_count
        added = self._add(self.text.add(output), ended=output.finish_reason is not None)
        self._logprobs += self.added_logprobs(before)
        return added

    def whole(self) -> ChatChoice:
        """Return the whole answer."""
        answer = self.answer
        message = AssistantMessage(
            content=answer.content or (None if answer.calls else ""),
            reasoning_content=answer.reasoning or msgspec.UNSET,
            reasoning=answer.reasoning or msgspec.UNSET,
            tool_calls=answer.calls or msgspec.UNSET,
        )
        return ChatChoice(
            index=self.index,
            message=message,
            logprobs=self._taken_logprobs(),
            finish_reason=self.reason,
        )

    def chunks(self, output: TokenOutput) -> Iterator[ChunkChoice]:
        """Return what an output adds to the answer."""
        shown, ended = not self.text.stopped, output.finish_reason is not None
        before = self.text.token_count
        text = self.text.add(output)
        if not (shown or ended):
            return
        if not self._begun:
            self._begun = True
            yield self._choice(Delta(role="assistant", content=""), None)
        self._logprobs += self.added_logprobs(before)
        for added in self._add(text, ended=ended):
            yield self._choice(_delta(added), None)
        if ended:
            yield self._choice(Delta(), self.reason)

    def _add(self, text: str, *, ended: bool) -> list[Addition]:
        was_complete = self.answer.complete
        added = self.answer.add(text, ended=ended)
        if self.answer.complete and not was_complete and not ended:
            self._finished = True
            self.finish()
        return added

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ends: at its last call, whatever ended the generation behind it."""
        return FinishReason.STOP if self._finished else super().finish_reason

    @property
    def reason(self) -> str | None:
        """Why the answer ends, in OpenAI's words."""
        reason = self.finish_reason
        called = self.answer.calls and not self.answer.named
        return TOOL_CALLS if called and reason == FinishReason.STOP else reason

    def _choice(self, delta: Delta, reason: str | None) -> ChunkChoice:
        logprobs = self._taken_logprobs() if self._logprobs else None
        return ChunkChoice(index=self.index, delta=delta, logprobs=logprobs, finish_reason=reason)

    def _taken_logprobs(self) -> msgspec.Raw | None:
        """Return logprobs that no chunk has shown yet."""
        if self.shown.answer is None:
            return None
        taken, self._logprobs = self._logprobs, []
        return self.shapes.chat(taken)


class ChatWriter(OpenAIWriter[ChatReader]):
    """Writes the assistant's answers."""

    def __init__(
        self, active: ActiveRequest, wanted: OpenAIRequest, name: str, options: AnswerOptions
    ) -> None:
        self._options = options
        super().__init__(active, wanted, name)

    def _reader(self, index: int) -> ChatReader:
        return ChatReader(self._active, self._wanted, index, self._options)

    def _whole(self, choices: Sequence[Any], usage: Usage) -> ChatCompletion:
        return ChatCompletion(
            id=self._name,
            created=self._created,
            model=self._active.model.name,
            choices=tuple(choices),
            usage=usage,
            prompt_logprobs=self._prompt_logprobs(),
        )

    def _prompt_logprobs(self) -> msgspec.Raw | msgspec.UnsetType:
        first = self._readers[0]
        if first.shown.prompt is None:
            return msgspec.UNSET
        return first.shapes.prompt(first.prompt_logprobs)

    def _chunk(self, choices: Sequence[Any], usage: Usage | msgspec.UnsetType | None) -> ChatChunk:
        return ChatChunk(
            id=self._name,
            created=self._created,
            model=self._active.model.name,
            choices=tuple(choices),
            usage=usage,
        )

    def _usage(self) -> Usage:
        reasoning = sum(reader.answer.reasoning_tokens for reader in self._readers)
        details = AnswerTokenDetails(reasoning)
        return msgspec.structs.replace(super()._usage(), completion_tokens_details=details)


def _delta(added: Addition) -> Delta:
    """Return the addition of a chunk."""
    if added.call is not None:
        return Delta(tool_calls=(added.call,))
    if added.reasoning:
        return Delta(reasoning_content=added.reasoning, reasoning=added.reasoning)
    return Delta(content=added.content)
