"""A server of S3 on this machine, and a connection to it that can be cut."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.waiting import SECONDS

BUCKET = "models"
PIECE = 1 << 16


@contextmanager
def s3_server() -> Iterator[int]:
    """Yield the port of a server with an empty bucket."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        endpoint = f"http://127.0.0.1:{port}"
        requests.post(f"{endpoint}/moto-api/reset", timeout=SECONDS).raise_for_status()
        requests.put(f"{endpoint}/{BUCKET}", timeout=SECONDS).raise_for_status()
        yield port
    finally:
        server.stop()


def use_s3(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Make s3:// mean the server at a port of this machine, here and in child processes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Connection:
    """Hands bytes on to a server until so many have come from it, and cuts every connection then.

    Its counts are owned by the lock.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._left: int | None = None
        self.sent = 0
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, count: int | None) -> None:
        """Let so many bytes pass, in both directions together; None: all."""
        with self._lock:
            self._left = count
            self.sent = self.received = 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, target in ((client, server), (server, client)):
                    arguments = source, target, source is client
                    threading.Thread(target=self._hand_on, args=arguments, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, is_sent: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                passing = self._passing(len(piece), is_sent)
                target.sendall(piece[:passing])
                if passing < len(piece):
                    break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _passing(self, count: int, is_sent: bool) -> int:
        with self._lock:
            if self._left is not None:
                count = min(count, self._left)
                self._left -= count
            self.sent += count if is_sent else 0
            self.received += 0 if is_sent else count
            return count
