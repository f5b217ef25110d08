"""What we add to Waitress: news of a client that has gone, and its own refusals as JSON."""

from collections.abc import Callable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from api.errors import code_of_status, error_body
from api.exchange import WATCH_CLIENT


class _RequestTask(WSGITask):  # type: ignore[misc]
    """Runs the application with WATCH_CLIENT in its environment."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[WATCH_CLIENT] = self.channel.watch_client
        return environment

    def service(self) -> None:
        try:
            super().service()
        finally:
            self.channel.on_client_gone = None


class _RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers what Waitress itself refuses (malformed requests, huge headers) as documented."""

    def execute(self) -> None:
        refusal = self.request.error
        # A request that could not be parsed has no path.
        path: str = getattr(self.request, "path", "")
        body = error_body(path, code_of_status(refusal.code), f"{refusal.reason}: {refusal.body}")
        self.status = f"{refusal.code} {refusal.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.response_headers.append(("Access-Control-Allow-Origin", "*"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose current request may ask to be told at once that its client has gone.

    The loop's thread closes it, the request's own thread watches. Each first writes its own field
    and then reads the other's, so that one of them calls; both may, and the callback allows it.
    """

    task_class = _RequestTask
    error_task_class = _RefusalTask
    on_client_gone: Callable[[], None] | None = None

    def watch_client(self, callback: Callable[[], None]) -> None:
        """Call back when the client goes, in the loop's thread; at once if it has gone already."""
        self.on_client_gone = callback
        if not self.connected:
            callback()

    def handle_close(self) -> None:
        """Tell the request, then close the connection."""
        self.connected = False
        if (callback := self.on_client_gone) is not None:
            callback()
        super().handle_close()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer not sent yet."""
        return bool(self.requests or self.total_outbufs_len)
