"""`rocmforge serve NAME` follows the version that is current, over real HTTP and under load."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import msgspec
import requests

from pipelines.conversion.convert import convert
from rocmforge.__main__ import main
from runtime.manifest import GRAPH_NAME
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

BODY: dict[str, Any] = {"prompt": "hello the world", "max_tokens": 40, "temperature": 0}
CLIENTS = 4


class Clients:
    """Clients that send requests repeatedly, and all their answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self.answers: list[requests.Response] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._ended.is_set():
            answer = requests.post(f"{self._url}/generate", json=BODY, timeout=SECONDS)
            self.answers.append(answer)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def publish(settings: Settings, path: Path, seed: int, *, broken: bool = False) -> None:
    path.unlink(missing_ok=True)
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    manifest = convert(Source(write_tiny_llama(path, seed=seed)), staging, "tiny")
    if broken:
        (staging / GRAPH_NAME).write_bytes(b"broken")
        sha256 = hashlib.sha256(b"broken").hexdigest()
        manifest = msgspec.structs.replace(manifest, graph_sha256=sha256)
    registry.publish(staging, manifest)


def wait_for_version(url: str, version: int) -> None:
    def is_served() -> bool:
        health = requests.get(f"{url}/health", timeout=SECONDS).json()
        return bool(health["checks"]["model"]["version"] == version)

    eventually(is_served, f"version {version} was not taken over")


def test_published_and_rolled_back_versions_are_taken_over_without_losing_a_request(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path / "home")
    publish(settings, tmp_path / "tiny.gguf", seed=1)
    with serving(Path("tiny"), settings.home) as (_, url):
        wait_until_ready(url)

        def text() -> str:
            answer = requests.post(f"{url}/generate", json=BODY, timeout=SECONDS).json()
            return str(answer["text"])

        first = text()
        clients = Clients(url)
        publish(settings, tmp_path / "tiny.gguf", seed=2)
        wait_for_version(url, 2)
        second = text()
        assert main(["rollback", "tiny", "--home", str(settings.home)]) == 0
        wait_for_version(url, 1)
        assert text() == first
        clients.end()
        (listed,) = requests.get(f"{url}/models", timeout=SECONDS).json()["models"]
        assert (listed["name"], listed["version"]) == ("tiny", 1)
    assert second != first
    assert {answer.status_code for answer in clients.answers} == {200}
    texts = [answer.json()["text"] for answer in clients.answers]
    assert set(texts) == {first, second}
    ids = [answer.json()["request_id"] for answer in clients.answers]
    assert len(set(ids)) == len(ids)


def test_the_version_before_is_let_go_and_a_broken_one_not_taken(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    publish(settings, tmp_path / "tiny.gguf", seed=1)
    registry = Registry(settings)
    with serving(Path("tiny"), settings.home) as (_, url):
        wait_until_ready(url)
        assert registry.version("tiny", 1).is_loaded()
        publish(settings, tmp_path / "tiny.gguf", seed=2)
        wait_for_version(url, 2)
        first = registry.version("tiny", 1)
        eventually(lambda: not first.is_loaded(), "version 1 was not let go")

        publish(settings, tmp_path / "tiny.gguf", seed=3, broken=True)
        log = tmp_path / "log"
        eventually(
            lambda: "version 3 of tiny is not served" in log.read_text(),
            "the broken version was not reported",
        )
        assert requests.post(f"{url}/generate", json=BODY, timeout=SECONDS).ok
        wait_for_version(url, 2)
