"""Server-sent events: one event per write, always ASCII, so that no chunk splits a character."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from api.answer_text import AnswerText
from runtime.finite_json import finite_json
from runtime.generation import FinishReason, Generations, TokenOutput

CONTENT_TYPE = "text/event-stream"
log = logging.getLogger("rocmforge.api")

PING = b": ping\n\n"
"""A comment, which clients skip; it keeps an idle connection alive and shows a dead one."""


class TokenEvent(msgspec.Struct, frozen=True):
    """One event of /generate/stream."""

    request_id: int
    token: int | None
    """None if a request ends without a further token."""
    text: str
    """Text that this token adds; empty while a character is incomplete."""
    finished: bool
    finish_reason: FinishReason | None


def event_bytes(event: msgspec.Struct | dict[str, Any]) -> bytes:
    r"""Return the event as one `data:` line. JSON escapes newlines, here also non-ASCII text."""
    return b"data: " + ascii_json(event) + b"\n\n"


def named_event(name: str, event: msgspec.Struct | dict[str, Any]) -> bytes:
    """Return the event with an `event:` line before it."""
    return b"event: " + name.encode() + b"\n" + event_bytes(event)


def ascii_json(value: msgspec.Struct | dict[str, Any]) -> bytes:
    """Return JSON that no cut of its bytes splits a character of."""
    encoded = finite_json(value)
    if encoded.isascii():
        return encoded
    return json.dumps(msgspec.json.decode(encoded), separators=(",", ":")).encode()


class TokenEvents:
    """Writes the outputs of a request as events of /generate/stream. Owned by one thread."""

    def __init__(self, request_id: int, text: AnswerText) -> None:
        self._request_id = request_id
        self._text = text
        self.ended = False

    def __call__(self, index: int, output: TokenOutput) -> bytes:
        """Return the event of one output; tokens after a stop have none."""
        self.ended = ended = output.finish_reason is not None
        if self._text.stopped:
            return self._event(None, "", FinishReason.STOP) if ended else b""
        added = self._text.add(output)
        return self._event(output.token, added, self._text.finish_reason if ended else None)

    def _event(self, token: int | None, text: str, reason: FinishReason | None) -> bytes:
        ended = reason is not None
        return event_bytes(TokenEvent(self._request_id, token, text, ended, reason))

    def failure(self) -> bytes:
        """The last event of a request whose text cannot be made."""
        return event_bytes(TokenEvent(self._request_id, None, "", True, FinishReason.FAILED))


class EventWriter(Protocol):
    """Makes events of the outputs of one request or of several."""

    @property
    def ended(self) -> bool:
        """Whether the last events were made."""

    def __call__(self, index: int, output: TokenOutput) -> bytes:
        """The events of one output; nothing of one that the client is not to see.

        `index` is that of the request among those that the client follows.
        """

    def failure(self) -> bytes:
        """The last events, where those of an output could not be made."""


class EventStream:
    """The events of a client's requests, as the body of a WSGI response.

    Owned by the thread that sends it, or that makes events to be sent by others.
    `on_close` is called exactly once, whether the stream was sent, broken off or never begun.
    """

    def __init__(
        self,
        generations: Generations,
        write: EventWriter,
        *,
        ping_seconds: float,
        ping: bytes | None = PING,
        on_close: Callable[[], None],
    ) -> None:
        self._generations = generations
        self._write = write
        self._ping_seconds = ping_seconds
        self._ping = ping
        self._on_close = on_close
        self._ended = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Wait for the next token and return its events, or a ping after a long silence."""
        while not (self._ended or self._closed):
            item = self._generations.next_output(self._ping_seconds)
            if item is None:
                if self._ping is None:
                    continue
                return self._ping
            index, output = item
            try:
                events = self._write(index, output)
                self._ended = self._write.ended
            except BaseException:
                failed = self._generations.each[index].request_id
                log.exception("the text of request %d failed", failed)
                self._ended = True
                events = self._write.failure()
            if events:
                return events
        raise StopIteration

    def close(self) -> None:
        """Let go of the request; the WSGI server calls this however the answer ended."""
        if not self._closed:
            self._closed = True
            self._on_close()
