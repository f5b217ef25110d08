"""Standard streams that are there, whatever started the program."""

import io
import logging
import os
import sys

log = logging.getLogger("rocmforge.command_line")


def open_standard_streams() -> None:
    """Open the null device where standard input, output or error is closed.

    Some init systems and cron jobs start programs so. Descriptors 0 to 2 must not become those of a
    file that is opened later: what a library prints would be written into it. What the encoding of
    standard output lacks is printed as an escape.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is taken, and those below are open by now.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error does by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def output_failure() -> OSError | None:
    """What became of standard output where what was printed cannot be written, else None.

    Gives it up in that case: Python would try and complain again when it exits.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up_output()
        return error
    return None


def say(line: str) -> None:
    """Print a line at once; one that standard output cannot take is logged instead.

    A server goes on when what its output went to has gone or is full.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        _give_up_output()
        log.warning("standard output cannot be written (%s): %s", error.strerror, line.strip())


def _give_up_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
