"""Finding published models by name and by file."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from pipelines.convert import convert
from pipelines.registry import Registry
from runtime.errors import ModelNotFound, PreparationError
from runtime.manifest import CheckResult, Manifest
from runtime.settings import Settings
from tests.models import write_tiny_llama


def publish(settings: Settings, path: Path, name: str) -> Path:
    registry = Registry(settings)
    staging = registry.new_staging(name, "test")
    return registry.publish(staging, convert(path, staging, name))


def test_names_resolve_to_the_current_version(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    first = publish(settings, path, "tiny")
    assert registry.resolve("tiny") == first
    second = publish(settings, path, "tiny")
    assert registry.resolve("tiny") == second
    assert [(model.name, model.version) for model in registry.models()] == [("tiny", 2)]
    assert first.is_dir()


def test_what_is_unknown_is_said_with_what_is_known(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ModelNotFound, match="published: none"):
        Registry(settings).resolve("tiny")
    publish(settings, write_tiny_llama(tmp_path / "tiny.gguf"), "tiny")
    for unknown in ("other", "..", "", "tiny/versions", "missing/file.gguf"):
        with pytest.raises(ModelNotFound, match=r"published: tiny$"):
            Registry(settings).resolve(unknown)


def test_files_resolve_to_what_was_made_of_them(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    with pytest.raises(ModelNotFound, match="rocmforge prepare"):
        registry.resolve(path)
    folder = publish(settings, path, "tiny")
    copy = Path(shutil.copy(path, tmp_path / "copy.gguf"))
    (tmp_path / "link.gguf").symlink_to(path)
    for same in (path, copy, tmp_path / "link.gguf"):
        assert registry.resolve(same) == folder
    os.utime(path, ns=(1, 1))
    assert registry.resolve(path) == folder


def test_a_changed_file_is_another_model(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", seed=1)
    times = path.stat()
    publish(settings, path, "tiny")
    path.unlink()
    write_tiny_llama(path, seed=2)
    with pytest.raises(ModelNotFound):
        Registry(settings).resolve(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    with pytest.raises(ModelNotFound):
        Registry(settings).resolve(path)


def test_models_of_another_build_are_prepared_anew(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    folder = publish(settings, path, "tiny")
    manifest = Manifest.read(folder)
    msgspec.structs.replace(manifest, versions={"graph": "0"}).write(folder)
    for model in ("tiny", path):
        with pytest.raises(ModelNotFound, match="rocmforge prepare"):
            Registry(settings).resolve(model)


def test_a_broken_manifest_hides_only_its_own_version(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = publish(settings, path, "tiny")
    second = publish(settings, path, "tiny")
    (second / "manifest.json").write_text("{")
    registry = Registry(settings)
    assert [model.version for model in registry.versions("tiny")] == [1]
    assert registry.resolve(path) == first
    assert registry.models() == []


def test_a_failed_check_cannot_be_published(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    failed = CheckResult(name="logits", passed=False, summary="blk.0.attn_q differs")
    manifest = msgspec.structs.replace(convert(path, staging, "tiny"), checks=(failed,))
    with pytest.raises(PreparationError, match=r"blk\.0\.attn_q differs"):
        registry.publish(staging, manifest)
    assert registry.models() == []
