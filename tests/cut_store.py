"""A storage whose connection ends after so many operations, or whose user is killed then."""

import os
import signal
import threading

from runtime.errors import StorageError
from runtime.storage.stores import Store


class CutStore:
    """Hands operations on to a storage, and fails from one of them on. Its count is locked."""

    def __init__(self, store: Store, operations: int, *, kills: bool = False) -> None:
        """kills: whether this process is killed instead."""
        self._store = store
        self._left = operations
        self._kills = kills
        self._lock = threading.Lock()
        self.url = store.url
        self.written = 0

    def read(self, key: str, most_bytes: int) -> bytes:
        self._pass()
        return self._store.read(key, most_bytes)

    def size(self, key: str) -> int | None:
        self._pass()
        return self._store.size(key)

    def write(self, key: str, content: bytes) -> None:
        self._pass()
        self._store.write(key, content)
        with self._lock:
            self.written += len(content)

    def create(self, key: str, content: bytes) -> bool:
        self._pass()
        return self._store.create(key, content)

    def _pass(self) -> None:
        with self._lock:
            self._left -= 1
            is_cut = self._left < 0
        if is_cut and self._kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if is_cut:
            raise StorageError("the connection is cut")
