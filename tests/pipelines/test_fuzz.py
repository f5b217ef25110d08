"""Broken files meet one clear error that names them; `make fuzz` examines thousands more."""

from pathlib import Path

import pytest

from tests.fuzz.examine import examine
from tests.fuzz.run import outcome_of, whole_files

FILES = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return [path.read_bytes() for path in whole_files(tmp_path_factory.mktemp("whole"))]


def test_whole_files_run(tmp_path: Path, whole: list[bytes]) -> None:
    path = tmp_path / "whole.gguf"
    for content in whole:
        path.write_bytes(content)
        assert examine(path, load=True) == "runs"


@pytest.mark.parametrize("first", range(0, FILES, FILES // 4))
def test_broken_files_run_or_are_refused(tmp_path: Path, whole: list[bytes], first: int) -> None:
    path = tmp_path / "broken.gguf"
    outcomes = [outcome_of(seed, whole, path) for seed in range(first, first + FILES // 4)]
    failures = [each for each in outcomes if each[1] not in ("runs", "refused")]
    assert failures == []
    assert len({what for _, what, _ in outcomes}) == 2
