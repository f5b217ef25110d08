"""A converted folder holds a graph, a manifest and a link to the GGUF, or nothing."""

import errno
import fcntl
import hashlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from runtime.errors import GGUFError, PreparationError, UnsupportedModel
from runtime.manifest import Manifest
from runtime.source import Source
from tests.models import write_tiny_llama


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder


def test_manifest_describes_the_model(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", format="Q4_0", embedding_format="Q8_0")
    manifest = convert(Source(path), folder, "tiny")
    assert manifest == Manifest.read(folder)
    assert (manifest.architecture, manifest.context_length) == ("llama", 256)
    assert manifest.block_formats.keys() == {"Q4_0", "Q8_0", "F32"}
    assert (manifest.page_layout.layers, manifest.page_layout.kv_heads) == (2, 2)
    assert manifest.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.checks == ()


def test_weights_are_linked_not_copied(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    manifest = convert(Source(path), folder, "tiny", weights_copy="link")
    assert manifest.weights.stored_as == "link"
    assert manifest.weights_path(folder).samefile(path)
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "tiny.gguf",
        "weights.sums",
    ]


def test_a_copy_has_the_files_time_and_stays_what_it_was(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    manifest = convert(Source(path), folder, "tiny", weights_copy="copy")
    stored = manifest.weights_path(folder)
    assert manifest.weights.stored_as in ("copy", "reflink")
    assert stored.stat().st_mtime_ns == path.stat().st_mtime_ns == manifest.weights.modified_ns
    assert not stored.stat().st_mode & 0o222
    path.write_bytes(b"another file")
    assert stored.read_bytes() == content


def test_without_reflinks_auto_makes_a_link_and_never_a_copy(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    assert convert(Source(path), folder, "tiny").weights.stored_as == "link"


def test_where_reflinks_are_they_are_taken(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    if not reflinks(path, tmp_path / "probe"):
        pytest.skip("this file system has no reflinks: set TMPDIR to btrfs or XFS")
    manifest = convert(Source(path), folder, "tiny")
    assert manifest.weights.stored_as == "reflink"
    path.write_bytes(b"another file")
    assert manifest.weights_path(folder).read_bytes() == content


def reflinks(path: Path, probe: Path) -> bool:
    """Whether the system's own `cp` can share blocks here."""
    command = ["cp", "--reflink=always", str(path), str(probe)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_disk_without_room_for_a_copy_is_told(
    tmp_path: Path, folder: Path, full_disk: None
) -> None:
    path = tmp_path / "tiny.gguf"
    with pytest.raises(PreparationError, match="--weights-copy link"):
        convert(Source(path), folder, "tiny", weights_copy="copy")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[None]:
    """No file can become as large as the model that is there."""
    most = write_tiny_llama(tmp_path / "tiny.gguf").stat().st_size - 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_no_link_can_be_made_the_file_itself_is_used(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")

    def refuse(source: Path, link: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    manifest = convert(Source(path), folder, "tiny", weights_copy="link")
    assert (manifest.weights.linked_name, manifest.weights.stored_as) == (None, "outside")
    assert manifest.weights_path(folder) == path.resolve()


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "weights.sums"])
def test_a_file_that_is_called_like_one_of_ours_is_left_alone(
    tmp_path: Path, folder: Path, name: str
) -> None:
    path = write_tiny_llama(tmp_path / name)
    content = path.read_bytes()
    assert convert(Source(path), folder, "tiny").weights.stored_as == "outside"
    assert path.read_bytes() == content


def test_a_symbolic_link_is_followed(tmp_path: Path, folder: Path) -> None:
    blob = write_tiny_llama(tmp_path / "blob")
    (tmp_path / "model.gguf").symlink_to(blob)
    manifest = convert(Source(tmp_path / "model.gguf"), folder, "model")
    assert manifest.weights.linked_name == "blob"
    assert not (folder / "blob").is_symlink()


def test_nothing_is_written_for_what_cannot_be_run(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnsupportedModel):
        convert(Source(write_tiny_llama(tmp_path / "q8.gguf", format="Q8_1")), folder, "q8")
    broken = write_tiny_llama(tmp_path / "tiny.gguf")
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(GGUFError):
        convert(Source(broken), folder, "tiny")
    assert list(folder.iterdir()) == []
