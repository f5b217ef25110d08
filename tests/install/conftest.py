"""The wheel of this tree, and an environment in which it is installed without extras."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.files import locked
from runtime.ops.library import LIBRARY_NAME
from tests.waiting import SECONDS

ROOT = Path(__file__).parents[2]
LIBRARY = Path("runtime/ops", LIBRARY_NAME)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once for all processes, with the library that is built already.

    Compiling that takes minutes; tests/ops/gpu/test_packaging.py tries CMake's part.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with locked(folder / "wheel.lock"):
        if not list((folder / "wheel").glob("*.whl")):
            options = ("--no-deps", "--config-settings", "wheel.cmake=false")
            pip(sys.executable, "wheel", *options, "--wheel-dir", folder / "wheel", ROOT)
            (built,) = (folder / "wheel").glob("*.whl")
            with zipfile.ZipFile(built, "a") as archive:
                archive.write(ROOT / LIBRARY, LIBRARY)
    (built,) = (folder / "wheel").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Iterator[Path]:
    """The folder of the programs of an environment with the wheel, which goes with the module."""
    with tempfile.TemporaryDirectory(prefix="rocmforge-install-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=SECONDS)
        found = Path(folder) / "bin"
        pip(found / "python", "install", "--constraint", ROOT / "requirements.lock", wheel)
        yield found


def pip(python: Path | str, *arguments: Path | str) -> None:
    """Call an environment's pip, far from this tree and its packages."""
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [*command, *map(str, arguments)], check=True, cwd="/", env=environment, timeout=SECONDS
    )
