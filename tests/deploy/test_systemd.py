"""The unit of deploy/systemd, as systemd's own tools judge it, and a server under its rules."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

UNITS = Path(__file__).parents[2] / "deploy/systemd"
UNIT = "rocmforge.service"
PROGRAM = "/opt/rocmforge/bin/rocmforge"
MOST_EXPOSURE = 20
"""Of 100."""
REFUSE_EXEC_GAIN = """\
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("this kernel has no PR_SET_MDWE")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""What `MemoryDenyWriteExecute=` forbids, forbidden by the kernel itself (Linux 6.3)."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    text = (UNITS / UNIT).read_text()
    assert PROGRAM in text
    path = tmp_path / UNIT
    path.write_text(text.replace(PROGRAM, sys.executable))
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("for_gpu", [False, True])
def test_systemd_reads_the_unit_without_a_word(unit: Path, for_gpu: bool) -> None:
    if for_gpu:
        folder = unit.parent / f"{UNIT}.d"
        folder.mkdir()
        shutil.copy(UNITS / "gpu.conf", folder)
    verified = analyze("verify", unit)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_little_is_exposed(unit: Path) -> None:
    judged = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", unit)
    assert judged.returncode == 0, judged.stdout


def test_a_server_needs_no_memory_that_is_written_and_executed(tmp_path: Path) -> None:
    tried = subprocess.run(
        [sys.executable, "-c", REFUSE_EXEC_GAIN, "-c", ""], check=False, timeout=SECONDS
    )
    if tried.returncode:
        pytest.skip("this kernel has no PR_SET_MDWE")
    program = (sys.executable, "-c", REFUSE_EXEC_GAIN, "-m", "rocmforge")
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    with serving(model, tmp_path / "home", program=program) as (_, url):
        wait_until_ready(url)
        body: dict[str, Any] = {
            "prompt": "hello",
            "max_tokens": 3,
            "response_format": {"type": "json_object"},
        }
        answer = requests.post(f"{url}/v1/completions", json=body, timeout=SECONDS)
    assert answer.status_code == 200
