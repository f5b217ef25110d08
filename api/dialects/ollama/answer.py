"""Answers of Ollama's /api/chat and /api/generate: one JSON object, or one a line.

Source of names: docs/api.md of Ollama.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

from api.active_request import ActiveRequest
from api.chat_answer import Addition
from api.completions import OpenAIRequest
from api.dialects.turn_writer import TurnWriter
from api.sse import ascii_json
from api.tool_calls import ToolCall
from runtime.generation import NANOSECONDS, FinishReason

NDJSON = "application/x-ndjson"


class OllamaWriter(TurnWriter):
    """Writes the answer of /api/chat or /api/generate. Owned by one thread."""

    content_type = NDJSON
    ping = None
    """A line without JSON would end Ollama's clients."""

    def __init__(self, active: ActiveRequest, wanted: OpenAIRequest, *, chat: bool) -> None:
        super().__init__(active, wanted)
        self._chat = chat
        self._calls = 0
        """Calls that were written: each is written whole."""

    def _whole(self) -> dict[str, Any]:
        answer = self._reader.answer
        return self._object(answer.content, answer.reasoning, answer.calls) | self._figures()

    def _add(self, added: Addition) -> bytes:
        if added.call is not None:
            return self._complete_calls()
        return self._complete_calls() + _line(self._object(added.content, added.reasoning, ()))

    def _end(self) -> bytes:
        return self._complete_calls() + _line(self._object("", "", ()) | self._figures())

    def _complete_calls(self) -> bytes:
        """Return the lines of calls that have been completed since the last."""
        calls = self._reader.answer.calls[self._calls :]
        return b"".join(_line(self._object("", "", (call,))) for call in calls)

    def _failed(self, message: str) -> bytes:
        return _line({"error": message})

    def _object(self, content: str, reasoning: str, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
        """Return an object that is not the last."""
        timings = self._active.generation.timings
        made: dict[str, Any] = {
            "model": self._active.model.name,
            "created_at": moment(timings.submitted_unix_ns / NANOSECONDS),
        }
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": content}
            if reasoning:
                message["thinking"] = reasoning
            if calls:
                message["tool_calls"] = [self._call(call) for call in calls]
            made["message"] = message
        else:
            made["response"] = content
            if reasoning:
                made["thinking"] = reasoning
        return made | {"done": False}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        index, self._calls = self._calls, self._calls + 1
        arguments = msgspec.json.decode(call.function.arguments)
        function = {"index": index, "name": call.function.name, "arguments": arguments}
        return {"id": call.id, "function": function}

    def _figures(self) -> dict[str, Any]:
        """Return what the last object has besides: why it ended, counts, and nanoseconds."""
        generation = self._active.generation
        timings = generation.timings
        ended = timings.finished_ns or timings.submitted_ns
        started = timings.started_ns or ended
        first = timings.first_token_ns or ended
        length = self._reader.reason == FinishReason.LENGTH
        return {
            "done": True,
            "done_reason": "length" if length else "stop",
            "total_duration": ended - timings.submitted_ns,
            "load_duration": 0,
            "prompt_eval_count": len(generation.prompt_tokens),
            "prompt_eval_duration": first - started,
            "eval_count": self._reader.text.token_count,
            "eval_duration": ended - first,
        }


def now() -> float:
    """Return the seconds since 1970."""
    return datetime.now(UTC).timestamp()


def moment(unix_seconds: float) -> str:
    """Return a moment as RFC 3339, in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _line(value: dict[str, Any]) -> bytes:
    return ascii_json(value) + b"\n"
