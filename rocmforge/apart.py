"""Preparation in a process of its own, so that a server does not keep the memory it takes."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from rocmforge.progress import shown
from rocmforge.termination import leave_on_sigterm
from runtime.errors import PreparationError, RocmForgeError
from runtime.processes import end_with_parent
from runtime.settings import Settings


def prepare_apart(
    gguf: Path, settings: Settings, *, name: str | None = None, replace: bool = False
) -> Path:
    """Prepare a GGUF in a child process, which shows its progress; returns the published folder.

    name, replace: as for `prepare`. The child ends with this process. Raises what preparation
    raises, and PreparationError where the child died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(
        target=_prepare,
        args=(gguf, settings, name, replace, os.getpid(), sender),
        daemon=True,
    )
    child.start()
    sender.close()
    try:
        outcome: Path | RocmForgeError = receiver.recv()
    except EOFError:
        child.join()
        raise PreparationError(
            f"the preparation of {gguf} died with status {child.exitcode}; its last words are "
            "above, and -9 mostly means that memory ran out"
        ) from None
    child.join()
    if isinstance(outcome, RocmForgeError):
        raise outcome
    return outcome


def _prepare(
    gguf: Path,
    settings: Settings,
    name: str | None,
    replace: bool,
    parent: int,
    sender: Connection,
) -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent's end is a SIGTERM here: leave as an exception would, staging and cursor tidied.
    leave_on_sigterm()
    end_with_parent(signal.SIGTERM, parent=parent)
    from pipelines.prepare import prepare

    try:
        with shown() as report:
            outcome = prepare(gguf, settings, report, name=name, replace=replace)
    except RocmForgeError as error:
        sender.send(error)
    else:
        sender.send(outcome)
