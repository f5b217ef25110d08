import subprocess
import sys

import pytest

from runtime.malloc_arenas import MAX_ARENAS

COUNT = """
import re, sys, threading
from runtime.malloc_arenas import limit_arenas

if sys.argv[1] == "limited":
    limit_arenas()
threads = 16
allocated = threading.Barrier(threads + 1)
counted = threading.Barrier(threads + 1)

def allocate():
    held = bytes(100_000)
    allocated.wait()
    counted.wait()

for _ in range(threads):
    threading.Thread(target=allocate).start()
allocated.wait()
ARENA = 64 << 20  # glibc aligns every arena but the first
starts = [int(line.partition("-")[0], 16) for line in open("/proc/self/maps")]
print(sum(start % ARENA == 0 for start in starts))
counted.wait()
"""


def arenas(mode: str) -> int:
    """Arenas beside the heap in a process of 16 threads that allocate."""
    command = [sys.executable, "-c", COUNT, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts glibc's arenas")
def test_threads_share_two_arenas() -> None:
    assert arenas("free") > MAX_ARENAS
    assert arenas("limited") < MAX_ARENAS
