"""`pip install rocmforge` alone: it serves published models, and says what else takes the extra."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from runtime.extras import EXTRA_OF
from runtime.sample_model import FILE_NAME
from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

pytestmark = pytest.mark.long
SAMPLE = FILE_NAME.removesuffix(".gguf")
ALONE = ("env", "--unset=PYTHONPATH")
"""Without the sources of this tree."""


def run(programs: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALONE, str(programs / arguments[0]), *map(str, arguments[1:])],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=SECONDS,
    )


def test_no_package_of_an_extra_is_installed(programs: Path) -> None:
    listed = run(programs, "python", "-m", "pip", "list", "--format", "json")
    names = {each["name"] for each in json.loads(listed.stdout)}
    assert {"falcon", "onnxruntime-rocm", "rocmforge", "tokenizers"} <= names
    assert not {*EXTRA_OF, "dagster-webserver", "grpcio", "pillow", "sqlalchemy"} & names


@pytest.mark.sample
def test_a_published_model_is_served(programs: Path, sample_home: Path) -> None:
    program = [*ALONE, str(programs / "rocmforge")]
    body: dict[str, Any] = {"prompt": "The capital of Italy is", "max_tokens": 8, "temperature": 0}
    with serving(SAMPLE, sample_home, program=program) as (_, url):
        wait_until_ready(url)
        answer = requests.post(f"{url}/generate", json=body, timeout=SECONDS).json()
    assert answer["text"].startswith(" Rome")


@pytest.mark.parametrize("command", ["serve", "prepare", "bench"])
def test_what_prepares_and_measures_names_the_command_that_installs_it(
    command: str, programs: Path, tmp_path: Path
) -> None:
    gguf = write_tiny_llama(tmp_path / "tiny.gguf")
    options = ["--port", "0"] if command == "serve" else []
    finished = run(programs, "rocmforge", command, gguf, *options, "--home", tmp_path / "home")
    assert finished.returncode == 1
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("rocmforge: ")
    assert "pip install 'rocmforge[pipelines]'" in last
    assert not (tmp_path / "home" / "models").exists()


def test_what_reads_a_file_needs_no_extra(programs: Path, tmp_path: Path) -> None:
    finished = run(programs, "rocmforge", "inspect", write_tiny_llama(tmp_path / "tiny.gguf"))
    assert "Supported:" in finished.stdout
