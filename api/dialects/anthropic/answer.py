"""Answers of Anthropic's Messages API, whole or as events.

Source of names and their order: Anthropic's API reference, "Streaming messages".
"""

from typing import Any

import msgspec

from api import sse
from api.active_request import ActiveRequest
from api.chat_answer import Addition
from api.completions import OpenAIRequest
from api.dialects.turn_writer import TurnWriter
from api.error_bodies import AnthropicError, AnthropicErrorBody
from api.errors import GenerationFailed
from api.resources.chat import TOOL_CALLS
from api.tool_calls import ToolCall, ToolCallDelta
from runtime.generation import FinishReason


class MessagesUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts: the prompt's are divided into those computed and those known before."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /v1/messages, and the beginning of a stream."""

    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: tuple[dict[str, Any], ...]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessagesUsage


class MessagesWriter(TurnWriter):
    """Writes messages. Owned by one thread."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest, name: str) -> None:
        super().__init__(active, wanted)
        self._name = name
        self._blocks = 0
        """Blocks that were ended."""
        self._open = ""
        """Type of the block that is not ended."""

    def _whole(self) -> Message:
        answer = self._reader.answer
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
        if answer.content:
            content.append({"type": "text", "text": answer.content})
        content += map(_tool_use, answer.calls)
        return self._message(tuple(content), *self._stop())

    def _begin(self) -> bytes:
        message = self._message((), None, None)
        return _event("message_start", message=message)

    def _add(self, added: Addition) -> bytes:
        if added.call is not None:
            return self._add_call(added.call)
        if added.reasoning:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            delta = {"type": "thinking_delta", "thinking": added.reasoning}
        else:
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": added.content}
        before = b"" if self._open == block["type"] else self._close()
        return before + self._start(block["type"], block) + self._delta(delta)

    def _add_call(self, call: ToolCallDelta) -> bytes:
        """Return the events of the beginning of a call, or of what follows of its arguments."""
        events = b""
        if call.function.name is not msgspec.UNSET:
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": call.id,
                "name": call.function.name,
                "input": {},
            }
            events = self._close() + self._start("tool_use", block)
        if call.function.arguments:
            delta = {"type": "input_json_delta", "partial_json": call.function.arguments}
            events += self._delta(delta)
        return events

    def _end(self) -> bytes:
        reason, sequence = self._stop()
        return (
            self._close()
            + _event(
                "message_delta",
                delta={"stop_reason": reason, "stop_sequence": sequence},
                usage=self._usage(),
            )
            + _event("message_stop")
        )

    def _failed(self, message: str) -> bytes:
        error = AnthropicErrorBody(error=AnthropicError.of(GenerationFailed.code, message))
        return sse.named_event("error", error)

    def _start(self, kind: str, block: dict[str, Any]) -> bytes:
        """Return the event that begins a block, if it is not open."""
        if self._open == kind:
            return b""
        self._open = kind
        return _event("content_block_start", index=self._blocks, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks, delta=delta)

    def _close(self) -> bytes:
        """Return the event that ends a block, if one is open."""
        if not self._open:
            return b""
        self._open = ""
        self._blocks += 1
        return _event("content_block_stop", index=self._blocks - 1)

    def _message(
        self, content: tuple[dict[str, Any], ...], reason: str | None, sequence: str | None
    ) -> Message:
        return Message(
            id=self._name,
            model=self._active.model.name,
            content=content,
            stop_reason=reason,
            stop_sequence=sequence,
            usage=self._usage(),
        )

    def _stop(self) -> tuple[str, str | None]:
        """Return why the answer ends, and the stop sequence that was found."""
        reader = self._reader
        if (found := reader.text.found_stop) is not None:
            return "stop_sequence", found
        if reader.answer.calls and reader.reason in (TOOL_CALLS, FinishReason.STOP):
            return "tool_use", None
        return "max_tokens" if reader.reason == FinishReason.LENGTH else "end_turn", None

    def _usage(self) -> MessagesUsage:
        generation = self._active.generation
        known = self._active.known_tokens(generation)
        return MessagesUsage(
            input_tokens=len(generation.prompt_tokens) - known,
            cache_read_input_tokens=known,
            output_tokens=self._reader.text.token_count,
        )


def _event(kind: str, **fields: Any) -> bytes:
    return sse.named_event(kind, {"type": kind, **fields})


def _tool_use(call: ToolCall) -> dict[str, Any]:
    arguments = msgspec.json.decode(call.function.arguments)
    return {"type": "tool_use", "id": call.id, "name": call.function.name, "input": arguments}
