"""`rocmforge serve` with several models: each by its name, each in its current version."""

from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.conversion.convert import convert
from rocmforge.__main__ import main
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually

BODY: dict[str, Any] = {"prompt": "hello the world", "max_tokens": 8, "temperature": 0}


def publish(settings: Settings, folder: Path, name: str, seed: int) -> None:
    """Publish a version of a model without its checks, which take longest."""
    registry = Registry(settings)
    staging = registry.new_staging(name, "test")
    path = write_tiny_llama(folder / f"{name}{seed}.gguf", seed=seed)
    registry.publish(staging, convert(Source(path), staging, name))


def tokens(url: str, model: str) -> list[int]:
    answer = requests.post(f"{url}/generate", json={**BODY, "model": model}, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["tokens"]
    return found


def states(url: str) -> dict[str, str]:
    models = requests.get(f"{url}/v1/models", timeout=SECONDS).json()["data"]
    return {model["id"]: model["status"]["value"] for model in models}


def test_each_model_is_served_by_name_in_its_current_version(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home)
    for name, seed in (("one", 1), ("two", 2)):
        publish(settings, tmp_path, name, seed)
    arguments = ["two", "--alias", "gpt-4o=two"]
    with serving("one", home, further=arguments) as (_, url):
        wait_until_ready(url)
        assert states(url) == {"one": "loaded", "two": "unloaded", "gpt-4o": "unloaded"}
        first = tokens(url, "one")
        second = tokens(url, "gpt-4o")
        assert second == tokens(url, "two") != first
        # A loaded model takes its new version over; an unloaded one begins with it.
        publish(settings, tmp_path, "two", 3)
        eventually(lambda: tokens(url, "two") != second)
        third = tokens(url, "two")
        assert requests.post(f"{url}/models/unload", json={"model": "two"}, timeout=SECONDS).ok
        publish(settings, tmp_path, "two", 4)
        assert tokens(url, "two") not in (second, third)
        assert tokens(url, "one") == first


def test_a_name_is_for_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "a", "b", "--name", "c", "--home", str(tmp_path)]) == 2
    assert "--name is for one model" in capsys.readouterr().err
