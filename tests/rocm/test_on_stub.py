"""Runs the tests of `on_stub` in processes of their own, to which the stub's libraries are ROCm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 600
"""Far more than they take: the machine may be busy."""


def run(stub_libraries: Path, name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"--timeout={SECONDS}"]
    command.append(str(HERE / "on_stub" / name))
    looked_into = [stub_libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, looked_into))},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test_models.py", marks=pytest.mark.long),
        "test_weights.py",
        "test_memory.py",
        pytest.param("test_interpreted_kernels.py", marks=pytest.mark.long),
        "test_products.py",
    ],
)
def test_operators_and_sessions(stub_libraries: Path, name: str) -> None:
    run(stub_libraries, name)


@pytest.mark.long
@pytest.mark.sample
@pytest.mark.timeout(SECONDS)
def test_the_sample_model(sample_model: Path, stub_libraries: Path) -> None:
    run(stub_libraries, "test_sample_model.py")
