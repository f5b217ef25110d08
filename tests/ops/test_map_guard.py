"""A read of a map beyond its truncated file: zeros if guarded, else the process ends."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.ops.map_guard import MapGuard
from tests.waiting import SECONDS

PAGE = mmap.PAGESIZE
UNGUARDED = """
import mmap, os, sys
import numpy as np
from runtime.ops.map_guard import MapGuard
guard = MapGuard()
if sys.argv[2] == "kill":
    os.kill(os.getpid(), {number})
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(sys.argv[1], 0)
print(mapped[5])
"""
TWO_MAPS = """
import os, sys
from pathlib import Path
from runtime.ops.map_guard import MapGuard
from tests.ops.test_map_guard import mapped
file, of_another = map(Path, sys.argv[1:])
first, second, other = mapped(file), mapped(file), mapped(of_another)
guard, others_guard = MapGuard(), MapGuard()
guard.add(first)
others_guard.add(other)
os.truncate(file, 0)
print(second.max(), first.max(), guard.faults, others_guard.faults)
"""
AFTER_ANOTHER_HANDLER = """
import faulthandler, os, sys
from pathlib import Path
from runtime.ops.map_guard import MapGuard
from tests.ops.test_map_guard import mapped
first = mapped(Path(sys.argv[1]))
early = MapGuard()
faulthandler.enable()
guard = MapGuard()
guard.add(first)
os.truncate(sys.argv[1], 0)
print(first.max(), guard.faults)
guard.close()
print(mapped(Path(sys.argv[2]))[0], flush=True)
os.truncate(sys.argv[2], 0)
os.kill(os.getpid(), 7)
"""
BEYOND_ITS_MAP = """
import ctypes, mmap, os, sys
import numpy as np
from runtime.ops.library import native_library
from tests.ops.test_map_guard import PAGE
memory = mmap.mmap(-1, 16 * PAGE)
data = np.frombuffer(memory, np.uint8)
data[:] = 5
system = ctypes.CDLL(None)
system.mmap.restype = ctypes.c_void_p
arguments = [ctypes.c_size_t] * 2 + [ctypes.c_int] * 3 + [ctypes.c_long]
system.mmap.argtypes = arguments
file = os.open(sys.argv[1], os.O_RDONLY)
start = data.ctypes.data
fixed = mmap.MAP_PRIVATE | 0x10
assert system.mmap(start, 8 * PAGE, mmap.PROT_READ, fixed, file, 0) == start
guard = native_library().rocmforge_open_guard()
native_library().rocmforge_guard_range(guard, start, start + 16 * PAGE)
os.truncate(sys.argv[1], PAGE)
print(data[:PAGE].min(), data[PAGE : 8 * PAGE].max(), data[8 * PAGE :].min())
"""


def mapped(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def ended_process(
    program: str, *arguments: str | Path, check: bool = False
) -> "subprocess.CompletedProcess[str]":
    """A new process, whose maps no other test has guarded, after its end."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=check,
        timeout=SECONDS,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"\x07" * (8 * PAGE))
    return tmp_path / "file"


def test_what_is_gone_reads_as_zeros_and_is_counted(file: Path) -> None:
    data = mapped(file)
    guard = MapGuard()
    guard.add(data)
    assert (guard.faults, data.min()) == (0, 7)
    os.truncate(file, 3 * PAGE)
    assert data[: 3 * PAGE].min() == 7
    assert guard.faults == 0
    assert data[3 * PAGE :].max() == 0
    assert guard.faults >= 1  # exactly one in a process whose maps no other test has guarded
    guard.close()


def test_every_map_of_the_file_is_guarded_and_no_other(file: Path, tmp_path: Path) -> None:
    """ONNX Runtime makes maps of its own, of which we know the file only."""
    (tmp_path / "other").write_bytes(b"\x07" * PAGE)
    ended = ended_process(TWO_MAPS, file, tmp_path / "other", check=True)
    assert ended.stdout.split() == ["0", "0", "2", "0"]


def test_a_range_that_outlives_its_map_leaves_the_memory_beside_alone(file: Path) -> None:
    """Another map may take the addresses of a range that was never closed."""
    ended = ended_process(BEYOND_ITS_MAP, file, check=True)
    assert ended.stdout.split() == ["7", "0", "5"]


def test_another_handler_of_bus_errors_comes_after_ours_and_ends_the_process(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"\x07" * PAGE)
    ended = ended_process(AFTER_ANOTHER_HANDLER, file, tmp_path / "other")
    assert ended.stdout.split() == ["0", "1", "7"]
    assert "Fatal Python error: Bus error" in ended.stderr
    assert ended.returncode == -signal.SIGBUS


def test_two_guards_of_one_map_both_hear_of_it(file: Path) -> None:
    data = mapped(file)
    guards = [MapGuard(), MapGuard()]
    for guard in guards:
        guard.add(data)
    os.truncate(file, 0)
    assert data.max() == 0
    assert [guard.faults for guard in guards] == [1, 1]
    for guard in guards:
        guard.close()


def test_a_closed_guard_hears_nothing_and_its_place_is_used_again(file: Path) -> None:
    data = mapped(file)
    for _ in range(1000):
        guard = MapGuard()
        guard.add(data)
        guard.close()
    last = MapGuard()
    last.add(data)
    os.truncate(file, 0)
    assert data.max() == 0
    assert (last.faults, guard.faults) == (1, 0)
    last.close()


@pytest.mark.parametrize("cause", ["read", "kill"])
def test_any_other_bus_error_ends_the_process_with_a_line(file: Path, cause: str) -> None:
    program = UNGUARDED.format(number=int(signal.SIGBUS))
    ended = ended_process(program, file, cause)
    assert ended.returncode == -signal.SIGBUS
    assert "SIGBUS" in ended.stderr
    assert ended.stdout == ""
