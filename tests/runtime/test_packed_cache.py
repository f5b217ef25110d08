"""Packed copies that nobody has loaded make room for a new one, the least recently used first."""

import os
from pathlib import Path

import msgspec
import pytest

from pipelines.validation.steps import one_row
from runtime.gguf import GGUFFile
from runtime.packed_cache import make_room, mark_used
from runtime.packed_file import file_size, layout_of
from runtime.packed_weights import packed_path, packed_weights
from runtime.session import Session
from runtime.settings import Settings

SHAS = [f"{number:064x}" for number in range(3)]


def copies(folder: Path, sizes: dict[str, int]) -> None:
    """Copies of these sizes, the first one used the longest ago."""
    for used, (name, size) in enumerate(sizes.items(), 1):
        path = folder / f"{name}.packed"
        path.write_bytes(bytes(size))
        os.utime(path, (used, 0))


def kept(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.packed")}


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        (100, 0, {"a", "b", "c"}),
        (100, 700, {"a", "b", "c"}),
        (100, 699, {"b", "c"}),
        (300, 700, {"c"}),
        (700, 700, set()),
    ],
)
def test_the_least_recently_used_go_first_and_no_more_than_needed(
    tmp_path: Path, size: int, limit: int, expected: set[str]
) -> None:
    copies(tmp_path, {"a": 100, "b": 200, "c": 300})
    make_room(tmp_path, size, limit)
    assert kept(tmp_path) == expected


def test_a_copy_that_is_loaded_stays(tmp_path: Path) -> None:
    copies(tmp_path, {"a": 100, "b": 200})
    with (tmp_path / "a.packed").open("rb") as used:
        mark_used(used)
        make_room(tmp_path, 100, 300)
        assert kept(tmp_path) == {"a"}
        with pytest.raises(OSError, match="allows 0 MiB"):
            make_room(tmp_path, 100, 150)
    make_room(tmp_path, 100, 150)
    assert kept(tmp_path) == set()


def test_what_the_disk_cannot_hold_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"takes 1099511627776 MiB, and \d+ MiB are free"):
        make_room(tmp_path, 2**60, 0)


def test_loading_a_copy_is_using_it(tiny_gguf: Path, tmp_path: Path) -> None:
    gguf = GGUFFile.open(tiny_gguf)
    limit = 2 * file_size(layout_of(gguf))
    for sha in (SHAS[0], SHAS[1], SHAS[0]):
        packed_weights(gguf, sha, tmp_path, limit=limit)
    os.utime(packed_path(tmp_path, SHAS[1]), (1, 1))
    packed_weights(gguf, SHAS[2], tmp_path, limit=limit)
    assert kept(tmp_path) == {packed_path(tmp_path, sha).stem for sha in (SHAS[0], SHAS[2])}


def test_a_copy_beyond_the_limit_is_not_made(
    tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert packed_weights(GGUFFile.open(tiny_gguf), SHAS[0], tmp_path, limit=1) is None
    assert "--packed-bytes allows 0 MiB" in caplog.text


def test_mapped_weights_write_nothing_and_give_the_same_logits(
    prepared: Path, settings: Settings
) -> None:
    mapped = msgspec.structs.replace(settings, weights="mapped")
    step = one_row([5, 6, 7])
    found = Session(prepared, settings=mapped).run(step).copy()
    assert not settings.packed_folder.exists()
    assert (found == Session(prepared, settings=settings).run(step)).all()
    assert settings.packed_folder.exists()
