"""Waitress' connections with detection of disconnects and refusals in JSON."""

import logging
import socket
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from api.client import WATCH_CLIENT
from api.error_bodies import error_body
from api.errors import INTERNAL_ERROR, RETRY_AFTER_SECONDS, answer_of
from api.request_body import LET_GO_OF_BODY
from api.waitress_parser import Limits, Refusal, RequestParser

LINGER_SECONDS = 10.0
LINGER_BYTES = 64 * 1024 * 1024
"""Limits in seconds and bytes for what a refused client may still send before it reads."""

log = logging.getLogger("rocmforge.api")


class _RequestTask(WSGITask):  # type: ignore[misc]
    """Runs the application with WATCH_CLIENT and LET_GO_OF_BODY in its environment."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[WATCH_CLIENT] = self.channel.watch_client
        environment[LET_GO_OF_BODY] = self.request.close
        return environment

    def service(self) -> None:
        try:
            super().service()
        except Exception:
            raise
        except BaseException as error:  # as of a library in Rust; Waitress would never answer it
            raise RuntimeError("the application was ended") from error
        finally:
            self.channel.on_client_gone = None


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that never reach the application (malformed, too large) as documented."""

    def execute(self) -> None:
        refusal, request = self.request.error, self.request
        if not isinstance(refusal, Refusal):  # Waitress' own, if the application failed
            refusal, request = Refusal("internal_error", INTERNAL_ERROR), self.channel.requests[0]
        status = HTTPStatus(answer_of(refusal.code).status)
        log.info("a request was refused unread: %s", refusal.code)
        body = error_body(request.path, refusal.code, refusal.message)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Access-Control-Allow-Origin", "*"),
            ("X-Request-Id", uuid.uuid4().hex),
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.response_headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        self.set_close_on_finish()
        self.channel.lingers = True
        self.content_length = len(body)
        self.write(b"" if getattr(request, "command", "") == "HEAD" else body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that can report at once that its client has disconnected.

    The loop's thread reads, writes and closes it; the request's own thread answers and watches. For
    `on_client_gone` each first writes its own field and then reads the other's, so that one of them
    calls; both may, and the callback allows it.
    """

    task_class = _RequestTask
    error_task_class = _RefusalTask
    on_client_gone: Callable[[], None] | None = None
    request: RequestParser | None
    requests: list[RequestParser]
    lingers = False
    """Whether it is closed only after its client has had time to read the answer."""

    def __init__(self, limits: Limits, *arguments: Any, **options: Any) -> None:
        self._limits = limits
        self._discarded_bytes = 0
        self._discard_until: float | None = None
        """Set once everything is answered; further bytes are discarded."""
        super().__init__(*arguments, **options)

    def parser_class(self, adjustments: Any) -> RequestParser:
        """The parser of the next request."""
        return RequestParser(adjustments, self._limits)

    def watch_client(self, callback: Callable[[], None]) -> None:
        """Call when the client disconnects, in the loop's thread; at once if it already has."""
        self.on_client_gone = callback
        if not self.connected:
            callback()

    def readable(self) -> bool:
        """Whether to look for bytes of the client; called at least once a second."""
        if self._discard_until is not None:
            self.will_close |= time.monotonic() > self._discard_until
            return not self.will_close
        readable = bool(super().readable()) and self._discarded_bytes <= LINGER_BYTES
        if (request := self.request) is not None:
            if self.requests or not readable:
                request.wait_anew()
            elif request.overdue:
                self._refuse_slow(request)
        return readable

    def received(self, data: bytes) -> bool:
        """Receive bytes of the client; after a refused request they are ignored."""
        requests = self.requests
        if self._discard_until is not None or (requests and requests[-1].error):
            self._discarded_bytes += len(data)
            if self._discard_until is not None and self._discarded_bytes > LINGER_BYTES:
                self.will_close = True
            return True
        return bool(super().received(data))

    def handle_write(self) -> None:
        """Send the buffered bytes, then close the connection if it is to be closed."""
        if not (self.close_when_flushed and self.lingers):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif not self.total_outbufs_len:
            self._linger()

    def handle_expt(self) -> None:
        """Urgent data means nothing in HTTP, and would wake the loop for ever."""
        self.handle_close()

    def service(self) -> None:
        """Answer one request, in a thread of the server's."""
        super().service()
        if not self.connected:
            with self.requests_lock:
                left, self.requests = self.requests, []
            for request in left:
                request.close()

    def handle_close(self) -> None:
        """Tell the request, then close the connection."""
        self.connected = False
        if (callback := self.on_client_gone) is not None:
            callback()
        if self.request is not None:
            self.request.close()
        super().handle_close()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer not sent yet."""
        return bool(self.requests or self.total_outbufs_len)

    def _refuse_slow(self, request: RequestParser) -> None:
        """Answer a request that will not be complete."""
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return
            request.refuse(Refusal("request_timeout", "the request did not come in time"))
            self.requests.append(request)
            self.request = None
        self.server.add_task(self)

    def _linger(self) -> None:
        """Say that this was all, and let the client read it.

        Closing at once, with bytes of the client unread, would take the answer from it.
        """
        self.close_when_flushed = False
        self._discard_until = time.monotonic() + LINGER_SECONDS
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()
