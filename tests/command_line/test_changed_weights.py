"""A server whose files change returns no wrong token, says so, and recovers if it can."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.conversion.convert import convert
from runtime.manifest import Manifest
from runtime.packed_weights import packed_path
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

LONG: dict[str, Any] = {"prompt": "hello the world", "max_tokens": 200, "temperature": 0}


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf")


@pytest.fixture
def settings(tmp_path: Path, gguf: Path) -> Settings:
    """Of a home in which the model is published, as a hard link to the user's file."""
    settings = Settings(home=tmp_path / "home")
    publish(settings, gguf)
    return settings


def publish(settings: Settings, gguf: Path) -> Path:
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    return registry.publish(staging, convert(Source(gguf), staging, "tiny", weights_copy="link"))


def truncate_gguf(gguf: Path, settings: Settings) -> None:
    os.truncate(gguf, 5000)


def overwrite_gguf(gguf: Path, settings: Settings) -> None:
    other = write_tiny_llama(gguf.with_name("other.gguf"), seed=9).read_bytes()
    with gguf.open("rb+") as file:
        file.write(other)


def truncate_packed(gguf: Path, settings: Settings) -> None:
    manifest = Manifest.read(Registry(settings).resolve("tiny"))
    os.truncate(packed_path(settings.packed_folder, manifest.weights.sha256), 4096)


def texts(url: str, during: Callable[[], None]) -> tuple[list[int], str]:
    """The tokens of a stream of which the second event sets something off, and its end."""
    tokens: list[int] = []
    reason = ""
    answer = requests.post(f"{url}/generate/stream", json=LONG, stream=True, timeout=SECONDS)
    for line in answer.iter_lines():
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if event["token"] is not None:
            tokens.append(event["token"])
            if len(tokens) == 2:
                during()
        reason = event["finish_reason"] or ""
    return tokens, reason


@pytest.mark.parametrize("damage", [truncate_gguf, overwrite_gguf, truncate_packed])
def test_no_wrong_token_is_handed_out_and_the_server_says_why_it_stopped(
    gguf: Path, settings: Settings, damage: Callable[[Path, Settings], None]
) -> None:
    with serving(Path("tiny@1"), settings.home) as (process, url):
        wait_until_ready(url)
        expected, _ = texts(url, lambda: None)
        tokens, reason = texts(url, lambda: damage(gguf, settings))
        assert tokens == expected[: len(tokens)]
        assert reason == "failed" or len(tokens) == len(expected)
        if damage is truncate_packed:
            # It is made again, and the model is loaded again beside the engine that stopped.
            eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).ok)
            assert texts(url, lambda: None)[0] == expected
            return
        eventually(lambda: requests.get(f"{url}/health", timeout=SECONDS).status_code == 503)
        health = requests.get(f"{url}/health", timeout=SECONDS).json()
        assert "prepare the model again" in health["checks"]["engine"]["reason"]
        ready = requests.get(f"{url}/ready", timeout=SECONDS)
        assert (ready.status_code, "prepare the model" in ready.json()["error"]) == (503, True)
        refused = requests.post(f"{url}/generate", json=LONG, timeout=SECONDS)
        assert refused.status_code == 503
        assert str(gguf.parent) not in refused.text
        assert process.poll() is None
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_server_without_requests_notices_too_and_takes_over_what_becomes_current(
    gguf: Path, settings: Settings
) -> None:
    with serving(Path("tiny"), settings.home) as (_, url):
        wait_until_ready(url)
        overwrite_gguf(gguf, settings)
        eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).status_code == 503)
        publish(settings, gguf)
        eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).ok)
        health = requests.get(f"{url}/health", timeout=SECONDS).json()
        assert health["checks"]["model"]["version"] == 2
        assert "reason" not in health["checks"]["engine"]
        assert requests.post(f"{url}/generate", json=LONG, timeout=SECONDS).ok


def test_a_file_that_gets_its_content_back_is_served_again(gguf: Path, settings: Settings) -> None:
    content = gguf.read_bytes()
    with serving(Path("tiny"), settings.home) as (_, url):
        wait_until_ready(url)
        expected, _ = texts(url, lambda: None)
        truncate_gguf(gguf, settings)
        eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).status_code == 503)
        with gguf.open("rb+") as file:
            file.write(content)
        eventually(lambda: requests.get(f"{url}/ready", timeout=SECONDS).ok)
        assert texts(url, lambda: None)[0] == expected
