"""`verify` reads every byte of a version; what can be made again, it makes again."""

import os
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from rocmforge.__main__ import main
from runtime.manifest import Manifest
from runtime.packed_weights import packed_path
from runtime.registry import Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.verification import Condition, verify
from tests.models import write_tiny_llama


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    """A published version that was loaded once, so that it has a packed copy."""
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    gguf = write_tiny_llama(tmp_path / "tiny.gguf")
    folder = registry.publish(staging, convert(Source(gguf), staging, "tiny", weights_copy="copy"))
    Session(folder, settings=settings)
    return folder


def flip(path: Path, place: int) -> None:
    """Change one byte, and nothing that the system says of the file: as a disk forgets."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def conditions(folder: Path, settings: Settings) -> dict[str, Condition]:
    return {
        finding.file.suffix: finding.condition for finding in verify(folder, settings.packed_folder)
    }


def packed_of(folder: Path, settings: Settings) -> Path:
    return packed_path(settings.packed_folder, Manifest.read(folder).weights.sha256)


def test_what_is_as_it_was_is_intact(folder: Path, settings: Settings) -> None:
    assert conditions(folder, settings) == dict.fromkeys(
        (".onnx", ".gguf", ".packed"), Condition.INTACT
    )


@pytest.mark.parametrize("name", ["model.onnx", "tiny.gguf"])
@pytest.mark.parametrize("place", [0, 3000, -1])
def test_a_flipped_bit_of_the_model_is_found(
    folder: Path, settings: Settings, name: str, place: int
) -> None:
    flip(folder / name, place)
    assert conditions(folder, settings)[Path(name).suffix] is Condition.DAMAGED


@pytest.mark.parametrize("place", [0, 3000, -1])
def test_a_damaged_packed_copy_is_made_again(folder: Path, settings: Settings, place: int) -> None:
    path = packed_of(folder, settings)
    written = path.read_bytes()
    flip(path, place)
    conditions(folder, settings)
    assert path.read_bytes() == written
    assert conditions(folder, settings)[".packed"] is Condition.INTACT


def test_checksums_that_are_damaged_or_missing_are_written_again(
    folder: Path, settings: Settings
) -> None:
    sums = folder / "weights.sums"
    written = sums.read_bytes()
    flip(sums, 30)
    assert conditions(folder, settings)[".sums"] is Condition.REPAIRED
    assert sums.read_bytes() == written
    sums.unlink()
    assert conditions(folder, settings)[".sums"] is Condition.REPAIRED
    assert sums.read_bytes() == written


def test_the_command_names_what_is_damaged_and_fails(
    folder: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(settings.home)]
    assert main(["verify", "tiny", *home]) == 0
    flip(packed_of(folder, settings), 500)
    assert main(["verify", *home]) == 0
    assert "repaired" in capsys.readouterr().out
    flip(folder / "tiny.gguf", 3000)
    assert main(["verify", "tiny@1", *home]) == 1
    said = capsys.readouterr()
    assert "damaged" in said.out
    assert "1 of 1 MiB differ" in said.err
    assert "prepare its model again" in said.err


def test_preparing_a_file_again_repairs_its_packed_copy(
    tmp_path: Path, folder: Path, settings: Settings
) -> None:
    path = packed_of(folder, settings)
    written = path.read_bytes()
    flip(path, 2000)
    gguf = str(tmp_path / "tiny.gguf")
    assert main(["prepare", gguf, "--home", str(settings.home), "--threads", "1"]) == 0
    assert path.read_bytes() == written
