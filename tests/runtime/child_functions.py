"""Functions that tests/runtime/test_child_process.py runs in child processes."""

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime import errors

FOREVER = 3600.0


class Order(msgspec.Struct, frozen=True):
    """What each of the functions takes."""

    path: Path = Path()
    number: int = 0
    text: str = ""


class Note(msgspec.Struct, frozen=True):
    """Their progress."""

    number: int


class Reply(msgspec.Struct, frozen=True):
    """Their answer."""

    path: Path = Path()
    content: bytes = b""


Report = Callable[[Note], None]


def count(order: Order, report: Report) -> Reply:
    for number in range(order.number):
        report(Note(number))
    return Reply(order.path)


def answer_at_length(order: Order, report: Report) -> Reply:
    return Reply(content=bytes(order.number))


def raise_error(order: Order, report: Report) -> Reply:
    kind = getattr(errors, order.text)
    if issubclass(kind, errors.InvalidRequest):
        raise kind("a sentence", field="prompt")
    if issubclass(kind, errors.WeightsChanged):
        raise kind("a sentence", reloadable=True)
    raise kind("a sentence")


def divide(order: Order, report: Report) -> Reply:
    return Reply(content=bytes(1 // order.number))


def end_by_signal(order: Order, report: Report) -> Reply:
    print("the last line", file=sys.stderr, flush=True)
    os.kill(os.getpid(), order.number)
    raise AssertionError("it is survived")


def end_without_an_answer(order: Order, report: Report) -> Reply:
    os._exit(0)


def crash_after_the_answer(order: Order, report: Report) -> Reply:
    atexit.register(os._exit, 3)
    return Reply()


def answer_with_no_struct(order: Order, report: Report) -> object:
    return object()


def print_and_answer(order: Order, report: Report) -> Reply:
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr)
    return Reply()


def wait(order: Order, report: Report) -> Reply:
    """Reports its own process; removes a file where it is ended."""
    try:
        report(Note(os.getpid()))
        time.sleep(FOREVER)
    finally:
        order.path.unlink()
    return Reply()


def start_another_and_wait(order: Order, report: Report) -> Reply:
    """Reports a process that it has started, too."""
    another = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER})"])
    report(Note(another.pid))
    return wait(order, report)


def never_end(order: Order, report: Report) -> Reply:
    """As what hangs in a library and takes no signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(Note(os.getpid()))
    time.sleep(FOREVER)
    return Reply()
