"""ROCm without an AMD GPU: the stub's libraries, and a manifest of kernels that it takes."""

from pathlib import Path

import pytest

from runtime.device import driver as driver_module
from runtime.ops.gpu import manifest
from tests.rocm.stub_device import write_manifest
from tests.rocm.stub_libraries import build


@pytest.fixture(scope="session")
def stub_libraries() -> Path:
    """The folder of the stubs of ROCm's libraries."""
    return build()


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a build's kernels, which stub code objects are."""
    folder = tmp_path / "compiled"
    write_manifest(folder)
    monkeypatch.setattr(manifest, "COMPILED", folder)
    return folder


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the device of AMD's kernel driver."""
    path = tmp_path / "kfd"
    path.touch()
    monkeypatch.setattr(driver_module, "KERNEL_DRIVER", path)
    return path
