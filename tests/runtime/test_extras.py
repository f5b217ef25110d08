"""What an installation without the extra `pipelines` says of work that takes its packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.preparation import prepared
from rocmforge.__main__ import main
from runtime.errors import MissingPackage
from runtime.extras import EXTRA_OF, expect_installed
from runtime.settings import Settings
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

COMMAND = "pip install 'rocmforge[pipelines]'"


@pytest.fixture
def _served_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no package of the extra were installed: Python imports nothing that is None there."""
    for package in EXTRA_OF:
        monkeypatch.setitem(sys.modules, package, None)


def test_every_package_of_an_extra_is_found_where_it_is_installed() -> None:
    for package in EXTRA_OF:
        expect_installed(package)


@pytest.mark.usefixtures("_served_only")
def test_a_file_that_is_to_be_prepared_is_refused_with_the_command_that_installs(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(MissingPackage) as refusal:
        prepared(str(write_tiny_llama(tmp_path / "tiny.gguf")), settings, lambda _: None)
    assert COMMAND in str(refusal.value)


@pytest.mark.usefixtures("_served_only")
def test_a_model_of_the_hub_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(MissingPackage):
        prepared("hf:owner/repo:Q4_0", Settings(home=tmp_path / "home"), said.append)
    assert said == []


def test_what_is_prepared_already_needs_no_package_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf, home = write_tiny_llama(tmp_path / "tiny.gguf"), str(tmp_path / "home")
    assert main(["prepare", str(gguf), "--home", home]) == 0
    for package in EXTRA_OF:
        monkeypatch.setitem(sys.modules, package, None)
    settings = Settings(home=tmp_path / "home")
    published = prepared("tiny", settings, lambda _: None)
    assert prepared(str(gguf), settings, lambda _: None) == published


@pytest.mark.parametrize("command", ["prepare", "bench"])
def test_a_command_that_imports_such_a_package_says_one_line(command: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({list(EXTRA_OF)}))\n"
        "from rocmforge.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    gguf, home = write_tiny_llama(tmp_path / "tiny.gguf"), str(tmp_path / "home")
    finished = subprocess.run(
        [sys.executable, "-c", program, command, str(gguf), "--home", home],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert finished.returncode == 1
    (line,) = finished.stderr.splitlines()
    assert COMMAND in line
