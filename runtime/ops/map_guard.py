"""Keeps the process alive when a mapped file is truncated while it is read (SIGBUS)."""

import ctypes
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library

OWN_MAPS = Path("/proc/self/maps")


class MapGuard:
    """Counts reads of guarded maps beyond the end of their file, which give zeros.

    Without a guard such a read ends the process (SIGBUS): the file was truncated, or its disk
    reported an error. Any thread may read `faults`. Call `close` before the maps are freed.
    """

    def __init__(self) -> None:
        self._guard = int(native_library().rocmforge_open_guard())
        # A guard that nobody closes would take one of the library's few places for ever.
        self._close = weakref.finalize(self, native_library().rocmforge_close_guard, self._guard)
        # It only reads a number, and handing the interpreter to other threads would take longer.
        holding_interpreter = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int)
        self._faults = holding_interpreter(("rocmforge_guard_faults", native_library()))

    @property
    def faults(self) -> int:
        """Number of reads that gave zeros instead of the file's content."""
        faults: int = self._faults(self._guard) if self._guard >= 0 else 0
        return faults

    def add(self, mapped: NDArray[np.uint8]) -> None:
        """Guard every map in this process of the file that `mapped` maps."""
        if self._guard < 0:
            return
        start = mapped.ctypes.data
        for first, end in _maps_of_file_at(start) or [(start, start + mapped.nbytes)]:
            native_library().rocmforge_guard_range(self._guard, first, end)

    def close(self) -> None:
        """Stop guarding."""
        self._close()
        self._guard = -1


def _maps_of_file_at(address: int) -> list[tuple[int, int]]:
    """Return start and end of every map of the file that is mapped at an address.

    The system's list has device, number and path of each file; they are compared only with each
    other, since some file systems report other devices elsewhere.
    """
    try:
        lines = OWN_MAPS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    maps: list[tuple[int, int, str]] = []
    wanted = None
    for line in lines:
        place, _, _, *file = line.split(maxsplit=5)
        first, end = (int(number, 16) for number in place.split("-"))
        maps.append((first, end, " ".join(file)))
        if first <= address < end:
            wanted = maps[-1][2]
    return [(first, end) for first, end, file in maps if file == wanted]
