"""Finding published models by name and by file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipelines.conversion.convert import convert
from runtime.errors import BrokenModel, ModelNotFound, PreparationError
from runtime.manifest import CheckResult, Manifest
from runtime.registry import Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from tests.models import write_tiny_llama


def publish(settings: Settings, path: Path, name: str) -> Path:
    registry = Registry(settings)
    staging = registry.new_staging(name, "test")
    return registry.publish(staging, convert(Source(path), staging, name))


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
    (tmp_path / "elsewhere").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "elsewhere" / "tiny.gguf"))
    (tmp_path / "link.gguf").symlink_to(path)
    for same in (path, copy, tmp_path / "link.gguf"):
        assert registry.resolve(same) == folder
    with pytest.raises(ModelNotFound, match="rocmforge prepare"):
        registry.resolve(shutil.copy(path, tmp_path / "copy.gguf"))
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
    assert [model.version for model in registry.broken("tiny")] == [2]
    assert registry.resolve(path) == first
    assert registry.models() == []
    with pytest.raises(BrokenModel, match=r"tiny@2 cannot be loaded: .*manifest\.json"):
        registry.resolve("tiny")


def test_a_failed_check_cannot_be_published(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    failed = CheckResult(name="logits", passed=False, summary="blk.0.attn_q differs")
    manifest = msgspec.structs.replace(convert(Source(path), staging, "tiny"), checks=(failed,))
    with pytest.raises(PreparationError, match=r"blk\.0\.attn_q differs"):
        registry.publish(staging, manifest)
    assert registry.models() == []


def versions(settings: Settings, name: str = "tiny") -> list[int]:
    return [model.version for model in Registry(settings).versions(name)]


def test_the_newest_versions_are_kept(tmp_path: Path, settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, keep_versions=2)
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    for _ in range(4):
        publish(settings, path, "tiny")
    assert versions(settings) == [4, 3]


def test_neither_current_nor_loaded_versions_are_pruned(tmp_path: Path, settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, keep_versions=1)
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    session = Session(publish(settings, path, "tiny"), settings=settings)
    publish(settings, path, "tiny")
    assert versions(settings) == [2, 1]
    assert registry.version("tiny", 1).is_loaded()
    registry.rollback("tiny")
    del session
    assert not registry.version("tiny", 1).is_loaded()
    publish(settings, path, "tiny")
    assert versions(settings) == [3]


def test_a_version_that_is_loaded_elsewhere_stays(tmp_path: Path, settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, keep_versions=1)
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first = publish(settings, path, "tiny")
    program = "import sys; from pathlib import Path; from runtime.manifest import hold; "
    program += "held = hold(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        publish(settings, path, "tiny")
        assert versions(settings) == [2, 1]
        with pytest.raises(PreparationError, match="version 1 is loaded"):
            Registry(settings).remove("tiny")
        child.kill()
        child.wait()
    publish(settings, path, "tiny")
    assert versions(settings) == [3]


def test_a_pruned_version_takes_its_packed_weights_along(
    tmp_path: Path, settings: Settings
) -> None:
    settings = msgspec.structs.replace(settings, keep_versions=1)
    path = tmp_path / "tiny.gguf"
    for seed in (1, 2):
        path.unlink(missing_ok=True)
        Session(publish(settings, write_tiny_llama(path, seed=seed), "tiny"), settings=settings)
    (packed,) = settings.packed_folder.iterdir()
    (kept,) = Registry(settings).versions("tiny")
    assert packed.name.startswith(kept.manifest.weights.sha256[:32])


def test_rollback_goes_back_one_version_or_to_a_named_one(
    tmp_path: Path, settings: Settings
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    folders = [publish(settings, path, "tiny") for _ in range(3)]
    registry = Registry(settings)
    assert registry.rollback("tiny").version == 2
    assert registry.resolve("tiny") == folders[1]
    assert registry.rollback("tiny").version == 1
    with pytest.raises(ModelNotFound, match="no earlier version"):
        registry.rollback("tiny")
    assert registry.rollback("tiny", 3).version == 3
    with pytest.raises(ModelNotFound, match="no version 9; kept: 3, 2, 1"):
        registry.rollback("tiny", 9)
    assert publish(settings, path, "tiny").name == "4"


def test_a_version_can_be_named(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    first, second = (publish(settings, path, "tiny") for _ in range(2))
    registry = Registry(settings)
    assert (registry.resolve("tiny@1"), registry.resolve("tiny@2")) == (first, second)
    with pytest.raises(ModelNotFound, match="no version 3"):
        registry.resolve("tiny@3")


def test_a_retired_model_is_kept_and_comes_back(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    folder = publish(settings, path, "tiny")
    registry = Registry(settings)
    registry.retire("tiny")
    assert registry.models() == []
    assert registry.names() == ["tiny"]
    with pytest.raises(ModelNotFound, match="retired; run `rocmforge rollback tiny`"):
        registry.resolve("tiny")
    assert registry.rollback("tiny").folder == folder
    assert registry.resolve("tiny") == folder


def test_a_removed_model_leaves_nothing_but_its_gguf(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    Session(publish(settings, path, "tiny"), settings=settings)
    registry = Registry(settings)
    registry.remove("tiny")
    assert list(settings.models_folder.iterdir()) == []
    assert list(settings.packed_folder.iterdir()) == []
    assert path.stat().st_nlink == 1
    with pytest.raises(ModelNotFound, match="no model is called tiny"):
        registry.remove("tiny")


def test_a_rollback_goes_to_what_was_current_before(tmp_path: Path, settings: Settings) -> None:
    """Not to the number before, which one may have gone back from."""
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    for going_back in ({}, {"version": 1}):
        publish(settings, path, "tiny")
        publish(settings, path, "tiny")
        assert registry.rollback("tiny", **going_back).version == 1
        publish(settings, path, "tiny")
        assert [model.version for model in registry.versions("tiny")] == [3, 2, 1]
        previous = registry.previous("tiny")
        assert previous is not None
        assert previous.version == 1
        assert registry.rollback("tiny").version == 1
        registry.remove("tiny")


def test_a_retired_model_comes_back_as_it_was(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)
    for _ in range(3):
        publish(settings, path, "tiny")
    registry.rollback("tiny", 2)
    registry.retire("tiny")
    assert registry.rollback("tiny").version == 2
    assert registry.rollback("tiny").version == 1


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[" * 10_000, b"null"])
def test_without_its_history_a_model_goes_back_by_number(
    tmp_path: Path, settings: Settings, content: bytes | None
) -> None:
    """As models of earlier builds, which have none."""
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    for _ in range(3):
        publish(settings, path, "tiny")
    history = settings.models_folder / "tiny" / "history.json"
    history.unlink()
    if content is not None:
        history.write_bytes(content)
    registry = Registry(settings)
    assert [registry.rollback("tiny").version for _ in range(2)] == [2, 1]


def test_before_a_version_is_what_was_current_before_it(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    registry = Registry(settings)

    def before(version: int) -> int | None:
        model = registry.previous("tiny", version)
        return None if model is None else model.version

    for _ in range(3):
        publish(settings, path, "tiny")
    assert [before(version) for version in (1, 2, 3)] == [None, 1, 2]
    registry.rollback("tiny", 1)
    publish(settings, path, "tiny")
    assert [before(version) for version in (1, 4, 3)] == [None, 1, 2]


def test_a_model_that_is_looked_at_needs_no_right_to_write(
    tmp_path: Path, settings: Settings
) -> None:
    """On a read-only file system nothing can be opened for writing; a lock does not need to."""
    publish(settings, write_tiny_llama(tmp_path / "tiny.gguf"), "tiny")
    opened: list[int] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[2], int):
            opened.append(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    sys.addaudithook(watch)
    registry = Registry(settings)
    (model,) = registry.models()
    assert not model.is_loaded()
    assert registry.resolve("tiny") == model.folder
    watching = False
    assert opened
    assert set(opened) == {0}


def test_a_removal_waits_for_a_preparation(tmp_path: Path, settings: Settings) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    publish(settings, path, "tiny")
    registry = Registry(settings)
    program = "import sys; from pathlib import Path; from runtime.registry import Registry; "
    program += "from runtime.settings import Settings; print(flush=True); "
    program += "Registry(Settings(home=Path(sys.argv[1]))).remove('tiny'); print('gone')"
    with registry.preparing("tiny"):
        staging = registry.new_staging("tiny", "prepare")
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(settings.home)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        assert registry.publish(staging, convert(Source(path), staging, "tiny")).is_dir()
    assert child.stdout.read() == b"gone\n"
    assert child.wait() == 0
    assert list(settings.models_folder.iterdir()) == []


def test_what_a_killed_removal_left_goes_with_the_next(tmp_path: Path, settings: Settings) -> None:
    publish(settings, write_tiny_llama(tmp_path / "tiny.gguf"), "tiny")
    left = settings.models_folder / ".removed" / "0123"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"")
    assert Registry(settings).names() == ["tiny"]
    Registry(settings).remove("tiny")
    assert list(settings.models_folder.iterdir()) == []
