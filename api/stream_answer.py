"""Answers that are streams: of a request's events, or of the rest of them after a reconnect."""

import re
from collections.abc import Iterator

import falcon

from api import sse
from api.active_request import ActiveRequest
from api.client import Client
from api.resumable_stream import ResumableStream
from api.services import Services
from api.telemetry.logs import AccessEntry
from runtime.errors import InvalidRequest

RESUME_SECONDS = "X-Resume-Seconds"
"""The header that asks for a stream which can be resumed, and says for how long it can."""
LAST_EVENT_ID = "Last-Event-ID"
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
NUMBER = re.compile(r"[0-9]{1,18}")
LOOK_SECONDS = 1.0
"""Interval at which a resumable stream without events looks whether it is still wanted."""


class StreamReader:
    """The events of a resumable stream after one of them, as the body of a WSGI response.

    Owned by the thread that sends it; only `leave` is called from others.
    """

    def __init__(
        self,
        stream: ResumableStream,
        after: int,
        *,
        ping_seconds: float,
        entry: AccessEntry | None = None,
    ) -> None:
        """entry: the log entry that is written at the end. Raises StreamNotFound."""
        self._stream = stream
        self._number = stream.read(after)
        self._ping_seconds = ping_seconds
        self._entry = entry
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Wait for the next event and return it, or a ping after a long silence.

        The first is a ping, so that the headers, which name the stream, are sent at once.
        """
        if not self._begun:
            self._begun = True
            return sse.PING
        event = self._stream.take(self._number, self._ping_seconds)
        if event is None:
            raise StopIteration
        return event or sse.PING

    def leave(self) -> None:
        """End the reading."""
        self._stream.leave(self._number)

    def close(self) -> None:
        """Leave, and write the log line; the WSGI server calls this however the answer ended."""
        self.leave()
        if self._entry is not None:
            self._entry.write(200)
            self._entry = None


def answer_stream(
    request: falcon.Request,
    response: falcon.Response,
    active: ActiveRequest,
    write: sse.EventWriter,
    services: Services,
    *,
    content_type: str = sse.CONTENT_TYPE,
    ping: bytes | None = sse.PING,
) -> None:
    """Make the response the stream of a request's events; the stream closes the request.

    `ping`: what a silent stream sends; None for nothing. Raises InvalidRequest for an
    X-Resume-Seconds that is no time.
    """
    seconds = min(_resume_seconds(request), services.settings.resume_seconds)
    request.context.access.outlives_responder = True
    if content_type == sse.CONTENT_TYPE and seconds > 0:
        events = sse.EventStream(
            active.generations, write, ping_seconds=LOOK_SECONDS, ping=b"", on_close=active.close
        )
        stream = services.streams.keep(events, active.handle, seconds, active.owner)
        if stream is not None:
            response.set_header(RESUME_SECONDS, f"{seconds:g}")
            reader = StreamReader(stream, 0, ping_seconds=services.ping_seconds)
            Client(request).when_gone(reader.leave)
            _send(response, reader, content_type)
            return
    events = sse.EventStream(
        active.generations,
        write,
        ping_seconds=services.ping_seconds,
        ping=ping,
        on_close=active.close,
    )
    _send(response, events, content_type)


def answer_rest(
    request: falcon.Request,
    response: falcon.Response,
    stream: ResumableStream,
    *,
    ping_seconds: float,
) -> None:
    """Make the response the events after Last-Event-ID; all of them without one.

    204 where it is the last, at which a browser's EventSource reconnects no more (HTML, section
    9.2). Raises InvalidRequest for an id that is no number, and StreamNotFound.
    """
    given = request.get_header(LAST_EVENT_ID) or "0"
    if not NUMBER.fullmatch(given):
        raise InvalidRequest(f"{LAST_EVENT_ID} is the number of the last event that was received")
    if stream.is_last(int(given)):
        response.status = falcon.HTTP_NO_CONTENT
        return
    entry: AccessEntry = request.context.access
    reader = StreamReader(stream, int(given), ping_seconds=ping_seconds, entry=entry)
    entry.outlives_responder = True
    Client(request).when_gone(reader.leave)
    _send(response, reader, sse.CONTENT_TYPE)


def _send(
    response: falcon.Response, events: sse.EventStream | StreamReader, content_type: str
) -> None:
    response.content_type = content_type
    response.set_header("Cache-Control", "no-cache")
    # Proxies such as nginx would otherwise collect the events.
    response.set_header("X-Accel-Buffering", "no")
    response.stream = events


def _resume_seconds(request: falcon.Request) -> float:
    """Return the seconds that a request asks for; 0 where it asks for none."""
    given = request.get_header(RESUME_SECONDS) or "0"
    if not SECONDS.fullmatch(given):
        raise InvalidRequest(f"{RESUME_SECONDS} is a number of seconds, such as 30")
    return float(given)
