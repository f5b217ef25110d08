"""A command's model is prepared in a child process where it was not yet."""

from pathlib import Path

import pytest

from pipelines import preparation
from pipelines.preparation import prepare_in_child, prepared
from pipelines.validation import CHECKS
from runtime.errors import ModelNotFound, PreparationError, UnsupportedModel
from runtime.manifest import Manifest
from runtime.settings import Settings
from runtime.source import Content, Source, remember
from tests.models import write_tiny_llama
from tests.pipelines import faults


def silent(step: str) -> None:
    """Progress that nobody watches."""


def test_a_file_is_prepared_once_and_its_steps_are_reported(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    steps: list[str] = []
    folder = prepared(str(path), settings, steps.append)
    assert folder == settings.models_folder / "tiny" / "versions" / "1"
    checks = [check.step for check in CHECKS.values()]
    announced = steps.pop(1)
    assert announced.startswith("Will write 0.1 MB of packed weights to ")
    assert steps == ["Reading tiny.gguf", "Converting", *checks, "Publishing"]
    assert prepared(str(path), settings, steps.append) == folder
    assert prepared("tiny", settings, steps.append) == folder
    assert steps[-1:] == ["Publishing"]
    assert len(steps) == len(CHECKS) + 3


def test_errors_come_from_the_child_as_they_are(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "q8.gguf", format="Q8_1")
    with pytest.raises(UnsupportedModel):
        prepared(str(path), settings, silent)
    with pytest.raises(ModelNotFound):
        prepared("unknown", settings, silent)


def test_a_child_that_is_killed_has_prepared_nothing(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    monkeypatch.setattr(preparation, "FUNCTION", f"{faults.__name__}:killed_while_preparing")
    with pytest.raises(PreparationError, match="is not prepared: the process was killed by SIGK"):
        prepare_in_child(path, settings, silent)


def test_what_the_parent_has_read_the_child_does_not_read_again(
    tmp_path: Path, settings: Settings
) -> None:
    """A hash that is none shows that it was taken over."""
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    (content,) = (file.content for file in Source(path).files)
    remember(Content(content.state, "0" * 64, content.checksums))
    folder = prepare_in_child(path, settings, silent)
    assert Manifest.read(folder).weights.sha256 == "0" * 64
