"""`rocmforge serve --kv-events`: what a subscriber learns over a takeover of another version."""

import socket
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.conversion.convert import convert
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.api.kv_subscriber import Mirror, Subscriber
from tests.live.nginx import free_port
from tests.live.server import LiveServer, live_server, options_of
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

pytestmark = pytest.mark.slow


def publish(home: Path, gguf: Path) -> None:
    registry = Registry(Settings(home=home))
    staging = registry.new_staging("tiny", "test")
    registry.publish(staging, convert(Source(gguf), staging, "tiny"))


def ask(server: LiveServer) -> None:
    body: dict[str, Any] = {"prompt": "hello the world " * 10, "max_tokens": 1}
    assert requests.post(f"{server.url}/v1/completions", json=body, timeout=SECONDS).ok


def test_another_version_begins_without_pages(tmp_path: Path) -> None:
    home, gguf = tmp_path / "home", write_tiny_llama(tmp_path / "tiny.gguf")
    publish(home, gguf)
    events, replay = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    options = options_of(1024, "--kv-events", events, "--kv-events-replay", replay)
    with live_server("tiny", tmp_path, *options, home=home) as server:
        subscriber = Subscriber(events, replay)

        def pages() -> set[bytes]:
            mirror = Mirror()
            for topic, _, payload in subscriber.missed(0):
                assert topic == f"kv@{socket.gethostname()}@tiny".encode()
                mirror.take(payload)
            return set(mirror.pages)

        ask(server)
        eventually(lambda: pages() != set())
        known = pages()
        publish(home, gguf)
        eventually(lambda: pages() == set())
        ask(server)
        eventually(lambda: pages() == known)
        subscriber.close()
