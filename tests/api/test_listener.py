"""Accepting connections when the system has no descriptors left."""

import errno
import os
import socket
import threading

import pytest

from api.waitress_listener import Listener
from tests.api.serving import Serving
from tests.waiting import eventually


def test_without_descriptors_a_connection_waits_and_is_then_answered(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exhausted = threading.Event()
    exhausted.set()
    attempts = 0
    accept = socket.socket.accept

    def accept_if_possible(listening: socket.socket) -> tuple[socket.socket, object]:
        nonlocal attempts
        if exhausted.is_set():
            attempts += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", accept_if_possible)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(serving.get("/health").status_code))
    client.start()
    eventually(lambda: attempts > 0)
    # Its next attempt is a pause later: the loop does not spin, and goes on with all else.
    eventually(lambda: any(one._paused_until for one in listeners(serving)))
    exhausted.clear()
    client.join()
    assert answers == [200]
    assert len([record for record in caplog.records if "no connection" in record.message]) < 10


def listeners(serving: Serving) -> list[Listener]:
    return [one for one in serving.server._map.values() if isinstance(one, Listener)]
