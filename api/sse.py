"""Server-sent events: one whole event a write, always ASCII, so that no chunk splits a letter."""

import json
from collections.abc import Callable, Iterator

import msgspec

from runtime.detokenizer import StreamDecoder
from runtime.generation import FinishReason, Generation

CONTENT_TYPE = "text/event-stream"
PING = b": ping\n\n"
"""A comment, which clients skip; it keeps an idle connection alive and shows a dead one."""


class TokenEvent(msgspec.Struct, frozen=True):
    """One event of /generate/stream."""

    request_id: int
    token: int | None
    """None where a request ends without a further token."""
    text: str
    """What this token adds; empty while it holds only a part of a character."""
    finished: bool
    finish_reason: FinishReason | None


def event_bytes(event: TokenEvent) -> bytes:
    r"""The event as one `data:` line. JSON escapes newlines, and here also what is not ASCII."""
    encoded = msgspec.json.encode(event)
    if not encoded.isascii():
        encoded = json.dumps(msgspec.json.decode(encoded), separators=(",", ":")).encode()
    return b"data: " + encoded + b"\n\n"


class EventStream:
    """The events of one request, as the body of a WSGI answer. Owned by the thread that sends it.

    `on_close` is called exactly once, whether the stream was sent, broken off or never begun.
    """

    def __init__(
        self,
        generation: Generation,
        decoder: StreamDecoder,
        *,
        ping_seconds: float,
        on_close: Callable[[], None],
    ) -> None:
        self._generation = generation
        self._decoder = decoder
        self._ping_seconds = ping_seconds
        self._on_close = on_close
        self._ended = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Wait for the next token and give its event, or a ping where none came for long."""
        if self._ended or self._closed:
            raise StopIteration
        output = self._generation.next_output(self._ping_seconds)
        if output is None:
            return PING
        text = "" if output.token is None else self._decoder.feed(output.token)
        if output.finish_reason is not None:
            self._ended = True
            text += self._decoder.flush()
        return event_bytes(
            TokenEvent(
                self._generation.request_id,
                output.token,
                text,
                self._ended,
                output.finish_reason,
            )
        )

    def close(self) -> None:
        """Let go of the request; the WSGI server calls this however the answer ended."""
        if not self._closed:
            self._closed = True
            self._on_close()
