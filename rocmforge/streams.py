"""Standard streams that exist however the program was started."""

import io
import logging
import os
import sys

log = logging.getLogger("rocmforge.command_line")


def open_standard_streams() -> None:
    """Open the null device for closed standard input, output or error.

    Some init systems and cron jobs start programs with closed streams. A file that is opened later
    must not get descriptors 0 to 2: what a library prints would be written into it. Characters that
    standard output's encoding lacks are printed as escapes.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is used, and those below are open by now.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def output_failure() -> OSError | None:
    """Flush standard output; return the error if that fails, else None.

    After an error standard output is the null device: Python would fail again when it exits.
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
