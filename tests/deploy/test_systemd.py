"""The unit of deploy/systemd, as systemd's own tools judge it, and a server under its rules."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.command_line.test_serve import serving, wait_until_ready
from tests.deploy.confined import NOT_TO_BE_HAD
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

UNITS = Path(__file__).parents[2] / "deploy/systemd"
UNIT = "rocmforge.service"
PROGRAM = "/opt/rocmforge/bin/rocmforge"
MOST_EXPOSURE = 20
"""Of 100."""
CONFINED = (sys.executable, str(Path(__file__).with_name("confined.py")), sys.executable)


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


@pytest.mark.usefixtures("unit")
def test_a_server_needs_nothing_that_the_unit_forbids(tmp_path: Path) -> None:
    """No memory that is written and executed, and no privileged system call."""
    tried = subprocess.run([*CONFINED, "-c", ""], check=False, timeout=SECONDS)
    if tried.returncode == NOT_TO_BE_HAD:
        pytest.skip("needs PR_SET_MDWE (Linux 6.3) and libseccomp")
    assert tried.returncode == 0
    model = write_tiny_llama(tmp_path / "tiny.gguf")
    program = (*CONFINED, "-m", "rocmforge")
    with serving(model, tmp_path / "home", program=program) as (_, url):
        wait_until_ready(url)
        body: dict[str, Any] = {
            "prompt": "hello",
            "max_tokens": 3,
            "response_format": {"type": "json_object"},
        }
        answer = requests.post(f"{url}/v1/completions", json=body, timeout=SECONDS)
    assert answer.status_code == 200


@pytest.mark.usefixtures("unit")
def test_what_the_unit_forbids_is_forbidden() -> None:
    privileged = "import os; os.setuid(65534)"
    tried = subprocess.run([*CONFINED, "-c", privileged], capture_output=True, check=False)
    if tried.returncode == NOT_TO_BE_HAD:
        pytest.skip("needs PR_SET_MDWE (Linux 6.3) and libseccomp")
    assert b"Operation not permitted" in tried.stderr
