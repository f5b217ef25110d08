"""A converted folder holds a graph, a manifest and a link to the GGUF, or nothing."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from pipelines.convert import convert
from runtime.errors import GGUFError, UnsupportedModel
from runtime.manifest import Manifest
from tests.models import write_tiny_llama


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder


def test_manifest_describes_the_model(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", format="Q4_0", embedding_format="Q8_0")
    manifest = convert(path, folder, "tiny")
    assert manifest == Manifest.read(folder)
    assert (manifest.architecture, manifest.context_length) == ("llama", 256)
    assert manifest.block_formats.keys() == {"Q4_0", "Q8_0", "F32"}
    assert (manifest.page_layout.layers, manifest.page_layout.kv_heads) == (2, 2)
    assert manifest.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.checks == ()


def test_weights_are_linked_not_copied(tmp_path: Path, folder: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    manifest = convert(path, folder, "tiny")
    assert manifest.weights_path(folder).samefile(path)
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "tiny.gguf",
    ]


def test_where_no_link_can_be_made_the_file_itself_is_used(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")

    def refuse(source: Path, link: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    manifest = convert(path, folder, "tiny")
    assert manifest.weights.linked_name is None
    assert manifest.weights_path(folder) == path.resolve()


def test_a_symbolic_link_is_followed(tmp_path: Path, folder: Path) -> None:
    blob = write_tiny_llama(tmp_path / "blob")
    (tmp_path / "model.gguf").symlink_to(blob)
    manifest = convert(tmp_path / "model.gguf", folder, "model")
    assert manifest.weights.linked_name == "blob"
    assert not (folder / "blob").is_symlink()


def test_nothing_is_written_for_what_cannot_be_run(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnsupportedModel):
        convert(write_tiny_llama(tmp_path / "q8.gguf", format="Q8_1"), folder, "q8")
    broken = write_tiny_llama(tmp_path / "tiny.gguf")
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(GGUFError):
        convert(broken, folder, "tiny")
    assert list(folder.iterdir()) == []
