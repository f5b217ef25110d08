"""`rocmforge bench` as its own process: the servers it starts never outlive it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rocmforge.__main__ import main
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    gguf = write_tiny_llama(folder / "tiny.gguf")
    assert main(["prepare", str(gguf), "--home", str(folder / "home")]) == 0
    return folder / "home"


def children(process_id: int) -> list[int]:
    """Processes whose parent it is; the parent is the second field behind the name."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process_id:
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_measured_server_ends_with_the_benchmark(home: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "rocmforge", "bench", "tiny", "--quick", "--home", str(home)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: process.poll() is not None or bool(children(process.pid)))
        servers = children(process.pid)
        assert servers
        process.send_signal(number)
        assert process.wait(SECONDS) != 0
        eventually(lambda: not any(Path(f"/proc/{server}").exists() for server in servers))
    finally:
        process.kill()
        process.wait()
