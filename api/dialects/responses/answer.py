"""Answers of OpenAI's Responses API, whole or as events.

Source of names and their order: OpenAI's API reference, "Streaming events".
"""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from api import sse
from api.active_request import ActiveRequest
from api.chat_answer import Addition
from api.dialects.responses.request import Message, ResponsesRequest
from api.dialects.turn_writer import TurnWriter
from api.tool_calls import ToolCallDelta
from runtime.generation import NANOSECONDS, FinishReason

REASONING, MESSAGE, CALL = "reasoning", "message", "function_call"
PREFIXES = {REASONING: "rs_", MESSAGE: "msg_", CALL: "fc_"}
TEXTS = {REASONING: "reasoning_text", MESSAGE: "output_text"}
"""Types of the one part of an item, and names of its events."""

OnEnd = Callable[[str, dict[str, Any], tuple[Message, ...], int], None]
"""Keeps a response: its id, its object, the conversation to its end, and the bytes of that."""


class ResponsesWriter(TurnWriter):
    """Writes responses. Owned by one thread."""

    def __init__(self, active: ActiveRequest, wanted: ResponsesRequest, on_end: OnEnd) -> None:
        super().__init__(active, wanted)
        self._request = wanted
        self._on_end = on_end
        self._name = _new("resp_")
        self._number = 0
        """Of the next event."""
        self._items: list[dict[str, Any]] = []
        """Items of a stream; the last may be open."""
        self._open = False
        self._pieces: list[str] = []
        """Of the text of the open item."""

    def _whole(self) -> dict[str, Any]:
        answer = self._reader.answer
        items = []
        if answer.reasoning:
            items.append(_with_text(_item(REASONING), answer.reasoning))
        if answer.content or not answer.calls:
            items.append(_with_text(_item(MESSAGE), answer.content))
        for call in answer.calls:
            function = call.function
            named = {"call_id": call.id, "name": function.name, "arguments": function.arguments}
            items.append(_item(CALL) | named)
        return self._finished([item | {"status": "completed"} for item in items])

    def _begin(self) -> bytes:
        response = self._response("in_progress", [])
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _add(self, added: Addition) -> bytes:
        if added.call is not None:
            return self._add_call(added.call)
        kind = REASONING if added.reasoning else MESSAGE
        text = added.reasoning or added.content
        events = b""
        if not self._open or self._items[-1]["type"] != kind:
            events = self._close() + self._start(_item(kind))
            part = _part(kind, "")
            events += self._of_item("response.content_part.added", content_index=0, part=part)
        self._pieces.append(text)
        name = f"response.{TEXTS[kind]}.delta"
        return events + self._of_item(name, content_index=0, delta=text, **_logprobs(kind))

    def _add_call(self, call: ToolCallDelta) -> bytes:
        """Return the events of the beginning of a call, or of what follows of its arguments."""
        events = b""
        if call.function.name is not msgspec.UNSET:
            named = {"call_id": call.id, "name": call.function.name, "arguments": ""}
            events = self._close() + self._start(_item(CALL) | named)
        if more := call.function.arguments:
            self._pieces.append(more)
            events += self._of_item("response.function_call_arguments.delta", delta=more)
        return events

    def _end(self) -> bytes:
        events = self._close()
        response = self._finished(self._items)
        return events + self._event(f"response.{response['status']}", response=response)

    def _failed(self, message: str) -> bytes:
        self._fill()
        error = {"code": "server_error", "message": message}
        response = self._response("failed", self._items) | {"error": error}
        return self._event("response.failed", response=response)

    def _start(self, item: dict[str, Any]) -> bytes:
        self._items.append(item)
        self._open, self._pieces = True, []
        return self._event(
            "response.output_item.added", output_index=len(self._items) - 1, item=item
        )

    def _close(self) -> bytes:
        """Return the events that end the open item, if there is one."""
        if not self._open:
            return b""
        self._fill()
        self._open = False
        self._items[-1] = item = self._items[-1] | {"status": "completed"}
        if item["type"] == CALL:
            events = self._of_item(
                "response.function_call_arguments.done",
                name=item["name"],
                arguments=item["arguments"],
            )
        else:
            (part,) = item["content"]
            name, more = f"response.{TEXTS[item['type']]}.done", _logprobs(item["type"])
            events = self._of_item(name, content_index=0, text=part["text"], **more)
            events += self._of_item("response.content_part.done", content_index=0, part=part)
        return events + self._event(
            "response.output_item.done", output_index=len(self._items) - 1, item=item
        )

    def _fill(self) -> None:
        """Give the open item, if there is one, the text that its pieces are."""
        if not self._open:
            return
        item, text = self._items[-1], "".join(self._pieces)
        is_call = item["type"] == CALL
        self._items[-1] = item | {"arguments": text} if is_call else _with_text(item, text)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        """Return an event about the last item."""
        place = len(self._items) - 1
        return self._event(kind, item_id=self._items[-1]["id"], output_index=place, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return sse.named_event(kind, {"type": kind, "sequence_number": number, **fields})

    def _finished(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the ended response, which is kept if the client wants it."""
        cut = self._reader.reason == FinishReason.LENGTH
        response = self._response("incomplete" if cut else "completed", items)
        if cut:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        response["usage"] = self._usage()
        if self._request.given.store is not False:
            messages = (*self._request.messages, self._said())
            self._on_end(self._name, response, messages, self._request.size)
        return response

    def _said(self) -> Message:
        """Return the answer as a message of the conversation."""
        answer = self._reader.answer
        message: Message = {"role": "assistant", "content": answer.content}
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["tool_calls"] = msgspec.to_builtins(answer.calls)
        return message

    def _response(self, status: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        given, generate = self._request.given, self._request.generate
        sampling = generate.sampling
        unix_ns = self._active.generation.timings.submitted_unix_ns
        return {
            "id": self._name,
            "object": "response",
            "created_at": int(unix_ns / NANOSECONDS),
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": given.instructions,
            "max_output_tokens": given.max_output_tokens,
            "model": self._active.model.name,
            "output": items,
            "parallel_tool_calls": given.parallel_tool_calls is not False,
            "previous_response_id": given.previous_response_id,
            "reasoning": {"effort": None, "summary": None, **(given.reasoning or {})},
            "store": given.store is not False,
            "temperature": sampling.temperature,
            "text": given.text or {"format": {"type": "text"}},
            "tool_choice": given.tool_choice or "auto",
            "tools": given.tools or [],
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "usage": None,
            "metadata": given.metadata or {},
        }

    def _usage(self) -> dict[str, Any]:
        generation, text = self._active.generation, self._reader.text
        prompt = len(generation.prompt_tokens)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": self._active.known_tokens(generation)},
            "output_tokens": text.token_count,
            "output_tokens_details": {"reasoning_tokens": self._reader.answer.reasoning_tokens},
            "total_tokens": prompt + text.token_count,
        }


def _new(prefix: str) -> str:
    """Return an id that nobody guesses."""
    return prefix + secrets.token_hex(16)


def _item(kind: str) -> dict[str, Any]:
    """Return an item without content."""
    item: dict[str, Any] = {"id": _new(PREFIXES[kind]), "type": kind, "status": "in_progress"}
    if kind == MESSAGE:
        item |= {"role": "assistant", "content": []}
    elif kind == REASONING:
        item |= {"summary": [], "content": []}
    return item


def _part(kind: str, text: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": TEXTS[kind], "text": text}
    return part if kind == REASONING else part | {"annotations": [], "logprobs": []}


def _logprobs(kind: str) -> dict[str, Any]:
    """Return the field of a message's events that reasoning's do not have."""
    return {} if kind == REASONING else {"logprobs": []}


def _with_text(item: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the item with this text as its one part."""
    return item | {"content": [_part(item["type"], text)]}
