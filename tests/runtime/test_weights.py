"""Nothing that comes of changed weights is ever handed out."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.conversion.convert import convert
from runtime.checksums import CHUNK, Checksums
from runtime.errors import PreparationError, WeightsChanged
from runtime.manifest import Manifest
from runtime.packed_weights import packed_path
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs
from tests.models import write_tiny_llama

STEP = StepInputs(
    token_ids=np.arange(10, 18, dtype=np.int32),
    positions=np.arange(8, dtype=np.int32),
    row_starts=np.array([0, 8], np.int32),
    page_table=np.array([[0]], np.int32),
    logit_rows=np.array([7], np.int32),
)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf")


@pytest.fixture
def folder(tmp_path: Path, gguf: Path) -> Path:
    """The model, prepared as a hard link to the file."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(Source(gguf), folder, "tiny", weights_copy="link")
    return folder


@pytest.fixture
def session(folder: Path, settings: Settings) -> Iterator[Session]:
    session = Session(folder, settings=settings)
    session.weights.wait_until_compared()
    session.check()
    yield session
    session.weights.close()


def flip(path: Path, place: int) -> None:
    """Change one byte of a file in place."""
    with path.open("rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x55]))


def keep_time(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def packed_file(folder: Path, settings: Settings) -> Path:
    return packed_path(settings.packed_folder, Manifest.read(folder).weights.sha256)


@pytest.mark.parametrize("restored", [False, True])
def test_a_file_that_was_written_to_gives_no_logits(
    gguf: Path, session: Session, restored: bool
) -> None:
    before = gguf.stat()
    flip(gguf, before.st_size - 5)
    if restored:
        keep_time(gguf, before)
    with pytest.raises(WeightsChanged, match="prepare the model again") as raised:
        session.run(STEP)
    assert not raised.value.reloadable
    assert str(gguf.parent) not in str(raised.value)
    with pytest.raises(WeightsChanged):  # it stays so
        session.check()


def test_a_file_that_was_cut_short_gives_no_logits_and_the_process_lives(
    gguf: Path, session: Session
) -> None:
    session.run(STEP)
    os.truncate(gguf, 0)
    with pytest.raises(WeightsChanged):
        session.run(STEP)


def test_a_packed_copy_that_was_cut_short_gives_no_logits(
    folder: Path, settings: Settings, session: Session
) -> None:
    os.truncate(packed_file(folder, settings), 4096)
    with pytest.raises(WeightsChanged) as raised:
        session.run(STEP)
    assert raised.value.reloadable


def test_bytes_that_vanish_and_come_back_are_noticed(gguf: Path, session: Session) -> None:
    """The system's word on the file may be as before; reading its map told."""
    content = gguf.read_bytes()
    os.truncate(gguf, 0)
    session.weights.gguf.data("output_norm.weight").max()
    gguf.write_bytes(content)
    with pytest.raises(WeightsChanged):
        session.check()


def test_logits_are_right_up_to_the_moment_of_the_change(gguf: Path, session: Session) -> None:
    expected = session.run(STEP).copy()
    computing = threading.Event()

    def cut() -> None:
        computing.wait()
        os.truncate(gguf, CHUNK // 100)

    def compute_on() -> None:
        while True:
            np.testing.assert_array_equal(session.run(STEP), expected)
            computing.set()

    cutting = threading.Thread(target=cut)
    cutting.start()
    with pytest.raises(WeightsChanged):
        compute_on()
    cutting.join()


def test_what_changes_no_content_changes_nothing(
    tmp_path: Path, gguf: Path, session: Session
) -> None:
    expected = session.run(STEP).copy()
    os.utime(gguf)
    np.testing.assert_array_equal(session.run(STEP), expected)
    (tmp_path / "another.gguf").hardlink_to(gguf)
    gguf.chmod(0o444)
    gguf.unlink()
    np.testing.assert_array_equal(session.run(STEP), expected)


def test_a_file_that_takes_the_place_of_the_users_changes_nothing(
    tmp_path: Path, gguf: Path, session: Session
) -> None:
    expected = session.run(STEP).copy()
    write_tiny_llama(tmp_path / "new.gguf", seed=5).replace(gguf)
    np.testing.assert_array_equal(session.run(STEP), expected)


def test_a_damaged_packed_copy_is_noticed_deleted_and_made_again(
    folder: Path, settings: Settings, session: Session
) -> None:
    expected = session.run(STEP).copy()
    session.weights.close()
    path = packed_file(folder, settings)
    written, before = path.read_bytes(), path.stat()
    flip(path, 200)
    keep_time(path, before)
    damaged = Session(folder, settings=settings)
    damaged.weights.wait_until_compared()
    with pytest.raises(WeightsChanged, match="made anew when it is loaded again") as raised:
        damaged.run(STEP)
    assert raised.value.reloadable
    assert not path.exists()
    np.testing.assert_array_equal(Session(folder, settings=settings).run(STEP), expected)
    assert path.read_bytes() == written


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A prepared model of many mebibytes, none of whose matrices is packed."""
    path = write_tiny_llama(
        tmp_path / "large.gguf", format="F32", embedding=512, feed_forward=1024, layers=3
    )
    folder = tmp_path / "large"
    folder.mkdir()
    convert(Source(path), folder, "large", weights_copy="link")
    return folder


def unseen_place(folder: Path) -> int:
    """A byte that the look at parts leaves out."""
    (checksums,) = Checksums.read(folder, [Manifest.read(folder).weights.size])
    assert checksums is not None
    chunk = next(each for each in range(len(checksums.sums)) if each not in checksums.spread())
    return chunk * CHUNK + 1234


def test_damage_that_left_size_and_time_is_noticed_soon_after_the_start(
    large: Path, settings: Settings
) -> None:
    path = large / "large.gguf"
    before = path.stat()
    flip(path, unseen_place(large))
    keep_time(path, before)
    session = Session(large, settings=settings)
    session.weights.wait_until_compared()
    with pytest.raises(WeightsChanged):
        session.check()


@pytest.mark.parametrize("place", [0, -1])
def test_damage_at_an_end_of_the_file_is_noticed_at_the_start(
    large: Path, settings: Settings, place: int
) -> None:
    path = large / "large.gguf"
    before = path.stat()
    flip(path, place % before.st_size)
    keep_time(path, before)
    with pytest.raises(PreparationError, match="has changed since it was prepared"):
        Session(large, settings=settings)


def test_a_file_of_another_time_is_compared_whole_at_the_start(
    large: Path, settings: Settings
) -> None:
    path = large / "large.gguf"
    os.utime(path)
    Session(large, settings=settings)
    flip(path, unseen_place(large))
    with pytest.raises(PreparationError, match="has changed"):
        Session(large, settings=settings)


def test_a_version_of_an_earlier_build_has_no_checksums_and_is_loaded(
    folder: Path, gguf: Path, settings: Settings
) -> None:
    (folder / "weights.sums").unlink()
    session = Session(folder, settings=settings)
    session.run(STEP)
    gguf.write_bytes(gguf.read_bytes())
    with pytest.raises(WeightsChanged):
        session.run(STEP)


def test_sessions_give_their_files_back(folder: Path, settings: Settings) -> None:
    gc.collect()  # what earlier tests left is closed now, not while this one counts
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        session = Session(folder, settings=settings)
        session.run(STEP)
        del session
    assert len(os.listdir("/proc/self/fd")) <= before
