"""Maps of files that may lose bytes while they are read: the process survives, and can tell."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library

OWN_MAPS = Path("/proc/self/maps")


class MapGuard:
    """Counts the reads of guarded maps that met bytes which are gone: those gave zeros.

    Without a guard such a read ends the process (SIGBUS): a file was cut short, or its disk gave an
    error. Any thread may read `faults`. `close` comes before the maps go.
    """

    def __init__(self) -> None:
        self._guard = int(native_library().rocmforge_open_guard())

    @property
    def faults(self) -> int:
        """Reads that gave zeros instead of what the files held."""
        return int(native_library().rocmforge_guard_faults(self._guard)) if self._guard >= 0 else 0

    def add(self, mapped: NDArray[np.uint8]) -> None:
        """Guard every map that this process has of the file that `mapped` is a map of."""
        if self._guard < 0:
            return
        start = mapped.ctypes.data
        for first, end in _maps_of_file_at(start) or [(start, start + mapped.nbytes)]:
            native_library().rocmforge_guard_range(self._guard, first, end)

    def close(self) -> None:
        """Guard nothing more."""
        if self._guard >= 0:
            native_library().rocmforge_close_guard(self._guard)
            self._guard = -1


def _maps_of_file_at(address: int) -> list[tuple[int, int]]:
    """Start and end of every map of the file that is mapped at an address.

    The system's own list tells which file each is of, by device, number and path; they are compared
    with each other only, as some file systems name another device elsewhere.
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
