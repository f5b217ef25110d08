"""Streams that their clients may resume."""

import threading

from api.errors import StreamNotFound
from api.resumable_stream import WINDOW_BYTES, EventSource, ResumableStream


class StreamStore:
    """The resumable streams by the handles of their requests. Any thread may call it.

    `owner` is the name of the API key that a request comes with; None where keys are off.
    """

    def __init__(self, most_bytes: int) -> None:
        """most_bytes: of the events of all streams."""
        self._most = most_bytes // WINDOW_BYTES
        self._streams: dict[str, ResumableStream] = {}
        self._lock = threading.Lock()

    def keep(
        self, source: EventSource, handle: str, seconds: float, owner: str | None = None
    ) -> ResumableStream | None:
        """Return the stream of a source, which it owns from now on.

        None without a thread for it, and where too many streams run or are read; one that has ended
        and is not read goes for it.
        """
        stream = ResumableStream(
            source, seconds=seconds, owner=owner, on_end=lambda: self._remove(handle)
        )
        with self._lock:
            if len(self._streams) >= self._most and not self._forget_one():
                return None
            try:
                stream.start()
            except RuntimeError:
                return None
            self._streams[handle] = stream
        return stream

    def find(self, handle: str, owner: str | None = None) -> ResumableStream:
        """Return the stream of a handle, if the owner began it. Raises StreamNotFound."""
        with self._lock:
            found = self._streams.get(handle)
        if found is None or found.owner != owner:
            raise StreamNotFound(
                f"no stream {handle[:64]} is kept: it was not to be resumed, or nobody read it for "
                "longer than its request said; send the request again"
            )
        return found

    def _forget_one(self) -> bool:
        for handle, stream in self._streams.items():
            if stream.forget():
                del self._streams[handle]
                return True
        return False

    def _remove(self, handle: str) -> None:
        with self._lock:
            self._streams.pop(handle, None)
