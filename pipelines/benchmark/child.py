"""A child process that does not outlive its parent, however that one ends."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Have Linux send this process SIGTERM when the thread that started it ends; see prctl(2).

    Called by the child itself, be it between fork and exec.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
