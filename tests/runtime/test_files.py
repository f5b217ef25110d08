"""Locks, and files that appear whole or not at all, between processes."""

import multiprocessing
import os
import signal
import stat
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from runtime.files import locked, remove_abandoned, replacing, write_whole
from tests.waiting import SECONDS

FORK = multiprocessing.get_context("fork")


def start(target: Callable[..., None], *arguments: object) -> tuple[ForkProcess, Connection]:
    """A forked child and the pipe that it was given as its last argument."""
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=target, args=(*arguments, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours


def answer(pipe: Connection) -> object:
    assert pipe.poll(SECONDS)
    return pipe.recv()


def write_half_and_wait(path: Path, content: bytes, pipe: Connection) -> None:
    with replacing(path) as file:
        file.write(content[: len(content) // 2])
        file.flush()
        pipe.send("half")
        pipe.recv()
        file.write(content[len(content) // 2 :])
    pipe.send("whole")


def write_half_and_die(path: Path, pipe: Connection) -> None:
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def lock_and_note(path: Path, note: Path, pipe: Connection) -> None:
    pipe.send("asking")
    with locked(path), note.open("a") as file:
        file.write("in ")
        file.flush()
        pipe.send("in")
        pipe.recv()
        file.write("out ")
        file.flush()
        path.unlink()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_seen_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")
    with replacing(path) as file:
        file.write(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["file"]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_a_file_has_the_permissions_that_the_user_gives_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_whole(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_two_writers_of_one_process_id_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers that share a volume."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "file"
    contents = [b"a" * 1000, b"b" * 1000]
    pipes = [start(write_half_and_wait, path, content)[1] for content in contents]
    assert [answer(pipe) for pipe in pipes] == ["half", "half"]
    for pipe, content in zip(pipes, contents, strict=True):
        pipe.send("go on")
        assert answer(pipe) == "whole"
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_removed_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    _, pipe = start(write_half_and_wait, tmp_path / "alive", b"alive")
    assert answer(pipe) == "half"
    child, _ = start(write_half_and_die, tmp_path / "dead")
    child.join(SECONDS)
    assert len(names(tmp_path)) == 2
    remove_abandoned(tmp_path)
    assert len(names(tmp_path)) == 1
    write_whole(tmp_path / "other", b"")
    pipe.send("go on")
    assert answer(pipe) == "whole"
    assert names(tmp_path) == ["alive", "other"]
    assert (tmp_path / "alive").read_bytes() == b"alive"


def test_nothing_is_named_by_a_process_id() -> None:
    """Two containers on one volume may have the same; what a process reads about its parent may."""
    root = Path(__file__).parents[2]
    uses = {
        str(path.relative_to(root))
        for package in ("api", "pipelines", "rocmforge", "runtime")
        for path in (root / package).rglob("*.py")
        if "getpid" in path.read_text()
    }
    assert uses <= {
        "runtime/child_process.py",
        "runtime/processes.py",
    }


def test_a_lock_has_one_holder_also_where_the_holder_deletes_it(tmp_path: Path) -> None:
    path, note = tmp_path / "folder" / "lock", tmp_path / "note"
    with locked(path):
        pipes = [start(lock_and_note, path, note)[1] for _ in range(4)]
        assert {answer(pipe) for pipe in pipes} == {"asking"}
        path.unlink()
        path.parent.rmdir()
    waiting = set(pipes)
    while waiting:
        (entered,) = wait(list(waiting), SECONDS)
        assert isinstance(entered, Connection)
        assert entered.recv() == "in"
        entered.send("leave")
        waiting.remove(entered)
    with locked(path):
        assert note.read_text() == "in out " * 4
