"""A version is whole or it is broken: the broken ones are named and harm nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from rocmforge.__main__ import main
from runtime.errors import BrokenModel, ModelNotFound, PreparationError
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.source import Source
from tests.models import write_tiny_llama


def publish(settings: Settings, path: Path, name: str) -> Path:
    registry = Registry(settings)
    staging = registry.new_staging(name, "test")
    return registry.publish(staging, convert(Source(path), staging, name))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _content(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return write


BREAKS: dict[str, tuple[str, Callable[[Path], None]]] = {
    f"{name} {kind}": (name, how)
    for name in ("manifest.json", "model.onnx", "tiny.gguf")
    for kind, how in {
        "empty": _empty,
        "missing": _gone,
        "a folder": _folder,
        "a loop of links": _loop,
        "a link to nothing": _dangling,
        "a pipe": _pipe,
        "garbage": _content(b"\xff\xfe\0garbage"),
    }.items()
} | {
    "manifest.json not UTF-8": ("manifest.json", _content(b'{"name": "\xff"}')),
    "manifest.json deeply nested": ("manifest.json", _content(b"[" * 100_000)),
    "manifest.json null": ("manifest.json", _content(b"null")),
    "manifest.json a list": ("manifest.json", _content(b"[1, 2]")),
    "manifest.json of other types": ("manifest.json", _content(b'{"name": 1}')),
}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def two_models(tmp_path: Path, gguf: Path) -> Settings:
    """`tiny` with versions 1 and 2, of a file of its own, and `other`."""
    settings = Settings(home=tmp_path / "home")
    path = Path(shutil.copy(gguf, tmp_path / "tiny.gguf"))
    for name in ("tiny", "tiny", "other"):
        publish(settings, path, name)
        path.unlink()  # or breaking a link breaks the others
        shutil.copy(gguf, path)
    return settings


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_version_is_named_and_harms_nobody_else(
    two_models: Settings, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, registry = two_models, Registry(two_models)
    home = str(settings.home)
    file, break_it = BREAKS[how]
    folder = settings.models_folder / "tiny" / "versions" / "2"
    break_it(folder / file)

    assert [model.version for model in registry.versions("tiny")] == [1]
    assert [model.version for model in registry.broken("tiny")] == [2]
    assert registry.current("tiny") is None
    assert [model.name for model in registry.models()] == ["other"]
    assert registry.resolve("other").is_dir()
    assert registry.names() == ["other", "tiny"]
    for model in ("tiny", "tiny@2"):
        with pytest.raises(BrokenModel, match="tiny@2 cannot be loaded") as raised:
            registry.resolve(model)
        assert raised.value.code == "broken_model"
    with pytest.raises(BrokenModel):
        registry.rollback("tiny", 2)

    assert main(["models", "--home", home]) == 0
    listed = capsys.readouterr().out
    assert "broken" in listed
    assert "tiny@2 cannot be loaded" in listed
    assert "`rocmforge remove tiny@2`" in listed
    assert main(["rollback", "tiny", "--home", home]) == 0
    assert registry.resolve("tiny").name == "1"
    assert main(["remove", "tiny@2", "--home", home]) == 0
    assert not folder.exists()
    assert registry.broken("tiny") == []
    assert publish(settings, settings.home.parent / "tiny.gguf", "tiny").name == "3"


@pytest.mark.parametrize("how", ["manifest.json a folder", "model.onnx missing"])
def test_a_model_with_a_broken_version_can_be_removed(two_models: Settings, how: str) -> None:
    file, break_it = BREAKS[how]
    for version in ("1", "2"):
        break_it(two_models.models_folder / "tiny" / "versions" / version / file)
    registry = Registry(two_models)
    registry.remove("tiny")
    assert [path.name for path in two_models.models_folder.iterdir()] == ["other"]
    with pytest.raises(ModelNotFound):
        registry.remove("tiny")


@pytest.mark.parametrize(
    "how", [_gone, _empty, _folder, _loop, _dangling, _pipe], ids=lambda how: how.__name__
)
def test_a_broken_current_is_as_a_retired_model_and_a_rollback_mends_it(
    two_models: Settings, how: Callable[[Path], None]
) -> None:
    link = two_models.models_folder / "tiny" / "current"
    if how is _empty:
        link.unlink()
    how(link)
    registry = Registry(two_models)
    assert [model.name for model in registry.models()] == ["other"]
    assert [model.version for model in registry.versions("tiny")] == [2, 1]
    with pytest.raises(ModelNotFound, match="rocmforge rollback tiny"):
        registry.resolve("tiny")
    assert registry.rollback("tiny").version == 2
    assert registry.resolve("tiny").name == "2"


def test_a_rollback_reads_the_version_before_it_switches(two_models: Settings, gguf: Path) -> None:
    """A GGUF that was overwritten in place has its size, but another content."""
    weights = two_models.models_folder / "tiny" / "versions" / "1" / "tiny.gguf"
    content = bytearray(gguf.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    registry = Registry(two_models)
    with pytest.raises(BrokenModel, match=r"tiny@1 .*tiny\.gguf has changed"):
        registry.rollback("tiny", 1)
    with pytest.raises(ModelNotFound, match="no earlier version"):
        registry.rollback("tiny")
    assert registry.resolve("tiny").name == "2"


def test_the_current_version_is_not_removed(two_models: Settings) -> None:
    registry = Registry(two_models)
    with pytest.raises(PreparationError, match="current version"):
        registry.remove("tiny", 2)
    registry.remove("tiny", 1)
    assert [model.version for model in registry.versions("tiny")] == [2]
    with pytest.raises(ModelNotFound, match="no version 1"):
        registry.remove("tiny", 1)


def test_a_number_is_not_given_twice(two_models: Settings, gguf: Path) -> None:
    registry = Registry(two_models)
    registry.rollback("tiny", 1)
    registry.remove("tiny", 2)
    assert publish(two_models, gguf, "tiny").name == "3"
