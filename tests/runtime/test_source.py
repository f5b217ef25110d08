"""A GGUF that is looked at: what its content is, and when it is read again."""

import hashlib
import os
from pathlib import Path

import pytest

from runtime import source as source_module
from runtime.checksums import Checksums
from runtime.errors import GGUFError, PreparationError
from runtime.source import Source, SourceFile, remember
from tests.models import write_tiny_llama


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_known", {})


def test_the_content_has_hash_and_checksums(path: Path) -> None:
    content = SourceFile(path).content
    assert content.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    checksums = Checksums.decode(content.checksums)
    assert checksums is not None
    assert checksums.size == path.stat().st_size


def test_it_is_read_once_for_each_state_of_the_file(path: Path) -> None:
    first = SourceFile(path).content
    assert SourceFile(path).content is first
    os.utime(path)
    assert SourceFile(path).known_content is None
    assert SourceFile(path).content == source_module.Content(
        SourceFile(path).state, first.sha256, first.checksums
    )


def test_what_another_process_has_read_is_not_read_again(path: Path) -> None:
    content = source_module.Content(SourceFile(path).state, "its hash", b"")
    remember(content)
    assert SourceFile(path).content is content


def test_the_contents_of_the_last_files_are_remembered(tmp_path: Path) -> None:
    sources = []
    for number in range(source_module.MAX_KNOWN + 1):
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(bytes(number))
        sources.append(SourceFile(file))
    contents = [source.content for source in sources]
    assert [source.known_content for source in sources] == [None, *contents[1:]]


def test_a_file_that_is_written_to_meanwhile_is_refused(path: Path) -> None:
    source = SourceFile(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(PreparationError, match="is still being written"):
        _ = source.content
    source = SourceFile(path)
    path.rename(path.with_name("moved.gguf"))
    write_tiny_llama(path)
    with pytest.raises(PreparationError, match="is still being written"):
        source.expect_unchanged()


def test_links_to_it_may_come_and_go(path: Path, tmp_path: Path) -> None:
    source = Source(path)
    os.link(path, tmp_path / "link")
    source.expect_unchanged()


def test_a_link_gives_the_name_and_leads_to_the_file(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "name.gguf"
    link.symlink_to(path)
    source = Source(link)
    assert (source.path, source.file_path, source.gguf.path) == (link, path, path)


def test_only_a_file_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(GGUFError):
        _ = Source(tmp_path).gguf
    with pytest.raises(FileNotFoundError):
        Source(tmp_path / "none.gguf")
