"""Tests with the stub's libraries in place of ROCm's: `tests/rocm/test_on_stub.py` runs them."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runtime.device import gpu, rocm
from tests.rocm.stub_device import StubDevice
from tests.rocm.stub_libraries import HIP

if not (Path(os.environ.get("LD_LIBRARY_PATH", "").partition(os.pathsep)[0]) / HIP).is_file():
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def only_device() -> StubDevice:
    return StubDevice()


@pytest.fixture(scope="session")
def probed() -> Iterator[None]:
    """One child process looks for the GPU, and not one for each session; it is there all along."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "probe", cache(rocm.probe))
        yield


@pytest.fixture
def device(
    only_device: StubDevice, kernels: Path, driver: Path, probed: None
) -> Iterator[StubDevice]:
    """The stub's device; a kernel that met a failure fails the test."""
    only_device.begin()
    yield only_device
    only_device.set_memory(1 << 30)
    if only_device.failure is not None:
        raise only_device.failure
