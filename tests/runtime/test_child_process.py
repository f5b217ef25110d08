"""A function in a child process: what comes back, how it fails, and what is left of it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from runtime import child_process, errors
from runtime.child_process import run_in_child
from runtime.errors import ChildDied, InvalidRequest, RocmForgeError, WeightsChanged
from tests.runtime import child_functions
from tests.runtime.child_functions import Note, Order, Reply
from tests.waiting import SECONDS

OUR_ERRORS = [
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, RocmForgeError)
]


def run(
    function: Callable[..., object],
    order: Order | None = None,
    report: Callable[[Note], None] = lambda note: None,
) -> Reply:
    name = f"{function.__module__}:{function.__name__}"
    return run_in_child(name, order or Order(), report, progress=Note, answer=Reply)


def ended(process: int) -> bool:
    """Whether a process whose descriptor this is ends in time."""
    ending = select.poll()
    ending.register(process, select.POLLIN)
    return bool(ending.poll(1000 * SECONDS))


def test_progress_comes_in_order_and_the_answer_at_the_end() -> None:
    path = Path(os.fsdecode(b"/no/utf-8/\xff"))
    seen: list[int] = []
    reply = run(child_functions.count, Order(path, 1000), lambda note: seen.append(note.number))
    assert seen == list(range(1000))
    assert reply.path == path


def test_an_answer_may_be_large() -> None:
    assert run(child_functions.answer_at_length, Order(number=1 << 25)).content == bytes(1 << 25)


@pytest.mark.parametrize("name", OUR_ERRORS)
def test_an_error_of_ours_is_raised_here_as_it_was_there(name: str) -> None:
    with pytest.raises(RocmForgeError) as raised:
        run(child_functions.raise_error, Order(text=name))
    assert type(raised.value) is getattr(errors, name)
    assert str(raised.value) == "a sentence"
    if isinstance(raised.value, InvalidRequest):
        assert raised.value.field == "prompt"
    if isinstance(raised.value, WeightsChanged):
        assert raised.value.reloadable


def test_every_error_has_a_code_of_its_own() -> None:
    assert len({getattr(errors, name).code for name in OUR_ERRORS}) == len(OUR_ERRORS)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, r"was killed by SIGKILL \(memory may have run out\): the last line"),
        (signal.SIGABRT, r"was killed by Aborted \(signal 6\): the last line"),
    ],
)
def test_a_child_that_is_killed_has_died_by_a_signal(number: signal.Signals, said: str) -> None:
    with pytest.raises(ChildDied, match=said):
        run(child_functions.end_by_signal, Order(number=number))


def test_any_other_exception_ends_the_child_with_its_traceback_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ChildDied, match="ended with status 1: ZeroDivisionError: "):
        run(child_functions.divide)
    assert "Traceback" in capsys.readouterr().err


def test_an_answer_counts_only_of_a_child_that_ends_well() -> None:
    with pytest.raises(ChildDied, match="ended without an answer"):
        run(child_functions.end_without_an_answer)
    with pytest.raises(ChildDied, match="ended with status 3"):
        run(child_functions.crash_after_the_answer)


def test_what_is_no_data_is_sent_neither_there_nor_back() -> None:
    class Opaque(msgspec.Struct):
        value: object

    with pytest.raises(NotImplementedError, match="object cannot be sent"):
        run(child_functions.count, Opaque(object()))  # type: ignore[arg-type]
    with pytest.raises(ChildDied, match="object cannot be sent"):
        run(child_functions.answer_with_no_struct)


def test_what_a_child_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    run(child_functions.print_and_answer)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "to standard output\nto standard error\n")


def test_an_exception_here_ends_the_child_tidily_and_what_it_has_started(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    path.touch()
    processes: list[int] = []

    def report(note: Note) -> None:
        processes.append(os.pidfd_open(note.number))
        if len(processes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(child_functions.start_another_and_wait, Order(path), report)
    assert not path.exists()
    for process in processes:
        assert ended(process)
        os.close(process)


def test_a_child_that_takes_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.1)
    processes: list[int] = []

    def report(note: Note) -> None:
        processes.append(os.pidfd_open(note.number))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(child_functions.never_end, report=report)
    (process,) = processes
    assert ended(process)
    os.close(process)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    path.touch()
    program = f"""
from pathlib import Path
from tests.runtime.test_child_process import Order, child_functions, run
run(child_functions.wait, Order(Path({str(path)!r})), lambda note: print(note.number, flush=True))
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert ended(child)
    assert not path.exists()
    os.close(child)
