"""Pages in RAM and on disk, without an engine."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.page_tiers.disk_queue import QUEUE_BYTES, DiskQueue
from runtime.page_tiers.disk_tier import DiskTier
from runtime.page_tiers.page_fetch import PageFetch
from runtime.page_tiers.page_file import file_bytes
from runtime.page_tiers.ram_tier import RamTier
from tests.held_disk import HeldDisk
from tests.waiting import SECONDS, eventually

PAGE_BYTES = 4096
FILE_BYTES = file_bytes(PAGE_BYTES)
IDENTITY = b"i" * 16
ROOMY = 1 << 20


def content(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, PAGE_BYTES, np.uint8)


def name(number: int) -> bytes:
    return number.to_bytes(16, "little")


def tier(folder: Path, most_bytes: int = ROOMY, identity: bytes = IDENTITY) -> DiskTier:
    return DiskTier(folder, identity, PAGE_BYTES, most_bytes)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.page"))


def same(found: NDArray[np.uint8] | None, expected: NDArray[np.uint8]) -> bool:
    return found is not None and np.array_equal(found, expected)


def held(disk: DiskTier, numbers: range) -> list[int]:
    return [number for number in numbers if disk.read(name(number)) is not None]


def test_ram_drops_the_least_recently_used_page() -> None:
    ram = RamTier(3 * PAGE_BYTES)
    for number in range(3):
        ram.put(name(number), content(number))
    assert same(ram.get(name(0)), content(0))
    ram.put(name(3), content(3))
    assert [name(number) in ram for number in range(4)] == [True, False, True, True]
    assert (ram.held_bytes, ram.dropped) == (3 * PAGE_BYTES, 1)


def test_ram_takes_no_page_beyond_its_bound_and_forgets_what_it_must() -> None:
    ram = RamTier(PAGE_BYTES - 1)
    ram.put(name(0), content(0))
    assert (ram.held_bytes, ram.dropped) == (0, 1)
    roomy = RamTier(ROOMY)
    roomy.put(name(0), content(0))
    roomy.forget([name(0), name(1)])
    assert roomy.get(name(0)) is None
    assert roomy.held_bytes == 0


def test_a_page_on_disk_is_found_by_another_process(tmp_path: Path) -> None:
    assert tier(tmp_path).write(name(1), content(1))
    assert not tier(tmp_path).write(name(1), content(1))
    found = tier(tmp_path).read(name(1))
    assert same(found, content(1))
    assert tier(tmp_path).read(name(2)) is None


def test_only_its_user_reads_the_folder(tmp_path: Path) -> None:
    tier(tmp_path / "kv").write(name(1), content(1))
    assert (tmp_path / "kv").stat().st_mode & 0o777 == 0o700


def test_only_its_user_reads_pages_in_a_folder_that_was_there(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    tier(tmp_path).write(name(1), content(1))
    (own,) = (each for each in tmp_path.iterdir() if each.is_dir())
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_to_is_neither_read_nor_written(tmp_path: Path) -> None:
    disk = tier(tmp_path)
    disk.write(name(1), content(1))
    tmp_path.chmod(0o1777)
    with pytest.raises(PermissionError, match="other users can write to it"):
        disk.read(name(1))
    with pytest.raises(PermissionError, match="other users can write to it"):
        disk.write(name(2), content(2))
    assert len(files(tmp_path)) == 1


def test_pages_of_another_model_or_arithmetic_are_not_found(tmp_path: Path) -> None:
    tier(tmp_path).write(name(1), content(1))
    assert tier(tmp_path, identity=b"j" * 16).read(name(1)) is None


@pytest.mark.parametrize("place", [0, 10, 40, 100, FILE_BYTES - 1])
def test_a_page_with_a_changed_byte_is_deleted_and_counted(tmp_path: Path, place: int) -> None:
    disk = tier(tmp_path)
    disk.write(name(1), content(1))
    (path,) = files(tmp_path)
    stored = bytearray(path.read_bytes())
    stored[place] ^= 1
    path.write_bytes(stored)
    assert disk.read(name(1)) is None
    assert (disk.damaged, files(tmp_path)) == (1, [])
    assert disk.write(name(1), content(1))
    assert held(disk, range(3)) == [1]


@pytest.mark.parametrize("size", [0, 100, FILE_BYTES - 1, FILE_BYTES + 1])
def test_a_page_of_another_size_is_deleted_and_counted(tmp_path: Path, size: int) -> None:
    disk = tier(tmp_path)
    disk.write(name(1), content(1))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes().ljust(size, b"x")[:size])
    assert disk.read(name(1)) is None
    assert (disk.damaged, files(tmp_path)) == (1, [])


def test_a_page_under_the_name_of_another_is_deleted_and_counted(tmp_path: Path) -> None:
    disk = tier(tmp_path)
    disk.write(name(1), content(1))
    disk.write(name(1 + 256), content(2))
    one, other = files(tmp_path)
    one.write_bytes(other.read_bytes())
    found = held(disk, range(300))
    assert len(found) == 1
    assert disk.damaged == 1


def test_the_bound_is_kept_and_the_least_recently_used_pages_go(tmp_path: Path) -> None:
    disk = tier(tmp_path, 4 * FILE_BYTES)
    for number in range(4):
        disk.write(name(number), content(number))
    disk.touch([name(0)])
    for number in range(4, 7):
        disk.write(name(number), content(number))
        assert len(files(tmp_path)) * FILE_BYTES <= 4 * FILE_BYTES
    assert held(disk, range(7)) == [0, 4, 5, 6]


def test_the_bound_is_that_of_all_models_together(tmp_path: Path) -> None:
    one, other = tier(tmp_path, 4 * FILE_BYTES), tier(tmp_path, 4 * FILE_BYTES, b"j" * 16)
    for number in range(4):
        one.write(name(number), content(number))
    for number in range(4):
        other.write(name(number), content(number))
        assert len(files(tmp_path)) <= 4
    assert (held(one, range(4)), held(other, range(4))) == ([], [0, 1, 2, 3])


@pytest.mark.parametrize("count", [None, "", "-5", "x", "999999999999"])
def test_a_wrong_count_is_made_right(tmp_path: Path, count: str | None) -> None:
    disk = tier(tmp_path, 4 * FILE_BYTES)
    for number in range(4):
        disk.write(name(number), content(number))
    used = tmp_path / "used"
    used.unlink() if count is None else used.write_text(count)
    disk.write(name(4), content(4))
    assert len(files(tmp_path)) == 4
    assert int(used.read_text()) == 4 * FILE_BYTES


def test_a_bound_below_one_page_keeps_nothing(tmp_path: Path) -> None:
    assert not tier(tmp_path, FILE_BYTES - 1).write(name(1), content(1))
    assert files(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from tests.runtime.test_page_tiers import FILE_BYTES, content, name, tier
first, last, pages = map(int, sys.argv[2:])
disk = tier(Path(sys.argv[1]), pages * FILE_BYTES)
for number in range(first, last):
    disk.write(name(number), content(number))
"""


def test_two_processes_that_write_keep_one_bound_and_damage_nothing(tmp_path: Path) -> None:
    commands = [
        [sys.executable, "-c", WRITER, str(tmp_path), str(first), str(first + 60), "50"]
        for first in (0, 40)
    ]
    writers = [subprocess.Popen(command) for command in commands]
    assert [writer.wait(SECONDS) for writer in writers] == [0, 0]
    disk = tier(tmp_path, 50 * FILE_BYTES)
    found = held(disk, range(100))
    assert 40 <= len(found) <= 50
    assert disk.damaged == 0
    for number in found:
        assert same(disk.read(name(number)), content(number))
    assert int((tmp_path / "used").read_text()) == len(found) * FILE_BYTES


def test_pages_beyond_the_queue_are_dropped_and_counted(tmp_path: Path) -> None:
    queue = DiskQueue(tier(tmp_path))
    room = QUEUE_BYTES // PAGE_BYTES
    for number in range(room):
        assert queue.has_room(PAGE_BYTES)
        queue.write(name(number), content(0))
    assert not queue.has_room(PAGE_BYTES)
    assert queue.dropped == 1


def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    queue = DiskQueue(tier(tmp_path))
    for number in range(20):
        queue.write(name(number), content(number))
    queue.start(wake=lambda: None)
    queue.close()
    assert held(tier(tmp_path), range(30)) == list(range(20))
    assert queue.written_bytes == 20 * PAGE_BYTES


def test_a_page_is_found_while_it_waits_to_be_written(tmp_path: Path) -> None:
    queue = DiskQueue(tier(tmp_path))
    fetch = PageFetch([name(1), name(2), name(3)])
    for number in (1, 2):
        queue.write(name(number), content(number))
    queue.fetch(fetch)
    queue.start(wake=lambda: None)
    eventually(lambda: fetch.ended)
    assert [found.page_hash for found in fetch.found] == [name(1), name(2)]
    queue.close()


def test_pages_of_several_prompts_are_read_by_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        tier(tmp_path).write(name(number), content(number))
    sought: list[bytes] = []
    read = DiskTier.read

    def noted(disk: DiskTier, page_hash: bytes) -> NDArray[np.uint8] | None:
        sought.append(page_hash)
        return read(disk, page_hash)

    monkeypatch.setattr(DiskTier, "read", noted)
    queue = DiskQueue(tier(tmp_path))
    long, unknown = PageFetch([name(number) for number in range(4)]), PageFetch([name(9)])
    queue.fetch(long)
    queue.fetch(unknown)
    queue.start(wake=lambda: None)
    eventually(lambda: long.ended)
    queue.close()
    assert sought == [name(number) for number in (0, 9, 1, 2, 3)]
    assert [found.page_hash for found in long.found] == list(long.hashes)


def test_weights_that_turn_out_damaged_take_all_pages_of_their_model(tmp_path: Path) -> None:
    one, other = tier(tmp_path), tier(tmp_path, identity=b"j" * 16)
    one.write(name(1), content(1))  # by a process that was killed before it noticed
    other.write(name(1), content(1))
    queue = DiskQueue(tier(tmp_path))
    queue.write(name(2), content(2))
    queue.distrust()
    queue.start(wake=lambda: None)
    queue.close()
    assert (held(one, range(3)), held(other, range(3))) == ([], [1])
    one.write(name(3), content(3))
    assert int((tmp_path / "used").read_text()) == 2 * FILE_BYTES


def test_uses_are_not_noted_on_a_disk_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HeldDisk(monkeypatch, patience=0.0)
    queue = DiskQueue(tier(tmp_path))
    queue.start(wake=lambda: None)
    queue.fetch(PageFetch([name(1)]))
    disk.wait_for_read()
    queue.touch([name(1)])
    assert not queue._touches
    disk.let_go()
    queue.close()
