"""Missing parts for a GPU are named; `rocm` then fails, `auto` uses the CPU."""

import logging
import os
from pathlib import Path

import onnxruntime
import pytest

from runtime.device import driver as driver_module
from runtime.device import gpu, select_device
from runtime.device.probe import HIP_NAMES
from runtime.device.provider import ROCM_PROVIDER, choose_provider
from runtime.device.rocm import RocmDevice, probe
from runtime.errors import DeviceError
from runtime.ops.gpu import manifest as compiled
from runtime.ops.gpu.manifest import KernelManifest
from runtime.session import Session
from runtime.settings import Settings
from tests.rocm.stub_device import write_manifest
from tests.rocm.stub_libraries import HIP, LIBRARIES

has_rocm_provider = pytest.mark.skipif(
    ROCM_PROVIDER not in onnxruntime.get_available_providers(),
    reason="the installed onnxruntime has no provider for ROCm",
)


@pytest.fixture
def rocm(stub_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ROCm as a process sees it that is started from here: the probe, not this one."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub_libraries))
    return stub_libraries


def reason() -> str:
    with pytest.raises(DeviceError) as failure:
        select_device("rocm")
    return str(failure.value)


def test_a_gpu_that_has_all_it_needs(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_add_kernels", lambda manifest, architecture: None)
    device = select_device("auto")
    assert device.gpu is not None
    assert str(device.gpu) == "stub (gfx942)"
    choice = choose_provider("gfx942")
    assert device.reason == f"{choice.provider}, since {choice.reason}"


def test_no_driver(kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "KERNEL_DRIVER", tmp_path / "none")
    assert reason() == (
        f"there is no AMD GPU here, or its driver is not loaded: {tmp_path / 'none'} is missing"
    )


def test_a_driver_that_may_not_be_used(
    kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "may not be used by this user" in reason()


def test_no_kernels(driver: Path, kernels: Path) -> None:
    (kernels / "manifest.json").unlink()
    assert reason().startswith("this build has no GPU kernels")


def test_no_rocm(driver: Path, kernels: Path) -> None:
    assert reason().startswith(f"ROCm is not installed: {HIP}: cannot open")


@has_rocm_provider
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_missing(
    rocm: Path,
    library: str,
    kernels: Path,
    driver: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for each in {HIP, *LIBRARIES} - {library}:
        (tmp_path / each).symlink_to(rocm / each)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert reason().startswith(f"ONNX Runtime cannot load its ROCm provider: {library}: cannot")


def test_no_device(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_DEVICES", "0")
    assert reason() == "HIP finds no GPU (no device); is HIP_VISIBLE_DEVICES right?"


@has_rocm_provider
def test_libraries_that_abort(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_ABORT", "1")
    assert reason().startswith(
        "ROCm's libraries fail here (a process that loads them ends with status -6"
    )


def test_an_integrated_gpu_without_kernels_does_not_hide_a_card(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_DEVICES", "2")
    monkeypatch.setenv("STUB_ARCHITECTURE", "gfx1036,gfx942:sramecc+:xnack-")
    found = find(gpu.ANY_GPU)
    assert (found.number, found.architecture) == (1, "gfx942")
    assert find(1) == found
    with pytest.raises(DeviceError, match=r"the GPU stub \(gfx1036\) is none of those"):
        find(0)
    with pytest.raises(
        DeviceError, match=r"HIP has no GPU 2: 0 is stub \(gfx1036\), 1 is stub \(gfx942\)"
    ):
        find(2)


def find(number: int) -> gpu.Gpu:
    manifest = KernelManifest.read(compiled.COMPILED)
    assert manifest is not None
    return gpu.choose_gpu(probe(), manifest, number)


@pytest.mark.parametrize("soname", HIP_NAMES)
def test_hip_is_found_where_rocm_path_says(
    rocm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soname: str
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / soname).symlink_to(rocm / HIP)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "9.4.2")
    found = probe()
    assert found.library == str(tmp_path / "lib" / soname)
    assert found.hip_version == "7.2"
    assert found.override == "9.4.2"
    assert [each.architecture for each in found.devices] == ["gfx942"]


def test_an_architecture_without_kernels(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_ARCHITECTURE", "gfx906:sramecc-:xnack-")
    assert reason() == ("the GPU stub (gfx906) is none of those this build has kernels for: gfx942")


@pytest.mark.parametrize(
    ("architecture", "hint"),
    [
        ("gfx1036", "; with HSA_OVERRIDE_GFX_VERSION=10.3.0 it runs those of gfx1030"),
        ("gfx1103", ""),
    ],
)
def test_an_architecture_that_runs_the_kernels_of_another_is_told_how(
    kernels: Path, architecture: str, hint: str
) -> None:
    for each in ("gfx1030", "gfx1100"):
        write_manifest(kernels, each)
        manifest = KernelManifest.read(kernels)
        assert manifest is not None
        with pytest.raises(DeviceError) as failure:
            gpu.usable(RocmDevice("stub", architecture, 1 << 30), manifest)
        expected = hint if each == "gfx1030" else ""
        assert str(failure.value).endswith(f"has kernels for: {each}{expected}")


def test_auto_takes_the_cpu_and_warns_where_there_is_a_driver(
    prepared: Path,
    settings: Settings,
    kernels: Path,
    driver: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(prepared, settings=settings)
    assert session.device.gpu is None
    assert session.device.reason.startswith("ROCm is not installed")
    assert session.gpu_memory() is None
    (record,) = (each for each in caplog.records if each.name == "rocmforge.device")
    assert record.levelno == logging.WARNING
    assert session.device.reason in record.getMessage()


def test_cpu_never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.device.selection.find_gpu", lambda: pytest.fail("it looked"))
    device = select_device("cpu")
    assert (device.gpu, device.reason) == (None, "")
