"""Runs a program under what a unit's MemoryDenyWriteExecute= and SystemCallFilter= forbid.

    python tests/deploy/confined.py PROGRAM ARGUMENTS

The first is asked of the kernel itself (PR_SET_MDWE, Linux 6.3), the second of libseccomp. Ends
with status 77 where one of them is not to be had.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

UNIT = Path(__file__).parents[2] / "deploy/systemd/rocmforge.service"
NOT_TO_BE_HAD = 77
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO_EPERM = 0x7FFF0000, 0x00050001


def refuse_memory_that_is_written_and_executed() -> None:
    if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(NOT_TO_BE_HAD)


def refuse_system_calls_but(allowed: set[str]) -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        sys.exit(NOT_TO_BE_HAD)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(SCMP_ACT_ERRNO_EPERM)))
    for name in allowed:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other processors
            assert library.seccomp_rule_add(rules, ctypes.c_uint32(SCMP_ACT_ALLOW), number, 0) == 0
    assert library.seccomp_load(rules) == 0


def of_the_unit() -> set[str]:
    """The system calls that the unit's filter allows."""
    allowed: set[str] = set()
    for line in UNIT.read_text().splitlines():
        name, _, groups = line.partition("=")
        if name == "SystemCallFilter":
            named = set().union(*(calls(group) for group in groups.lstrip("~").split()))
            allowed = allowed - named if groups.startswith("~") else allowed | named
    return allowed


def calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    found: set[str] = set()
    for line in map(str.strip, listed.splitlines()[1:]):
        if line and not line.startswith("#"):
            found |= calls(line) if line.startswith("@") else {line}
    return found


if __name__ == "__main__":
    refuse_memory_that_is_written_and_executed()
    refuse_system_calls_but(of_the_unit())
    os.execvp(sys.argv[1], sys.argv[1:])
