"""`rocmforge doctor` names what is missing, in the words with which `--device rocm` refuses."""

import os
from pathlib import Path

import onnxruntime
import pytest

from rocmforge.__main__ import main
from runtime.device import driver as driver_module
from runtime.device import packages, select_device
from runtime.device.doctor import examine
from runtime.device.provider import ROCM_PROVIDER, choose_provider
from runtime.errors import DeviceError
from tests.rocm.stub_libraries import HIP


@pytest.fixture
def rocm(stub_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub_libraries))
    return stub_libraries


def missing() -> dict[str, str]:
    return {each.subject: each.words for each in examine() if not each.is_there}


def refusal() -> str:
    with pytest.raises(DeviceError) as failure:
        select_device("rocm")
    return str(failure.value)


def test_all_is_there(
    rocm: Path, kernels: Path, driver: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert missing() == {}
    found = {each.subject: each.words for each in examine()}
    assert found["kernel driver"] == f"{driver} can be used"
    assert found["ROCm"] == f"HIP 7.2, {HIP}"
    assert found["GPU kernels"] == "compiled for gfx942"
    choice = choose_provider("gfx942")
    assert found["GPU 0"] == f"stub (gfx942), 1024 MiB: {choice.provider}, since {choice.reason}"


def test_no_driver_where_no_card_is_either(
    rocm: Path, kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "KERNEL_DRIVER", tmp_path / "kfd")
    monkeypatch.setattr(driver_module, "PCI_DEVICES", tmp_path)
    assert missing()["kernel driver"].startswith("there is no AMD GPU here, or its driver")
    assert refusal() == missing()["kernel driver"]


def test_a_card_whose_driver_is_not_loaded(
    rocm: Path, kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, vendor, kind in (("a", "0x10de", "0x030000"), ("b", "0x1002", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    monkeypatch.setattr(driver_module, "KERNEL_DRIVER", tmp_path / "kfd")
    monkeypatch.setattr(driver_module, "PCI_DEVICES", tmp_path)
    assert driver_module.amd_cards() == ["b"]
    assert "sudo modprobe amdgpu" in missing()["kernel driver"]
    assert refusal() == missing()["kernel driver"]


def test_a_driver_of_another_group(
    rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "sudo usermod --append --groups" in missing()["kernel driver"]
    assert refusal() == missing()["kernel driver"]


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ("ID=ubuntu\nID_LIKE=debian", "hip-runtime-amd of AMD's repository (repo.radeon.com)"),
        ("ID=debian", "hip-runtime-amd of AMD's repository (repo.radeon.com)"),
        ('ID="nobara"\nID_LIKE="fedora"', "rocm-hip"),
        ("ID=arch", "hip-runtime-amd"),
    ],
)
def test_no_rocm(
    kernels: Path,
    driver: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
    package: str,
) -> None:
    (tmp_path / "os-release").write_text(release)
    monkeypatch.setattr(packages, "OS_RELEASE", tmp_path / "os-release")
    assert f"(the package {package} has it;" in missing()["ROCm"]
    assert refusal() == missing()["ROCm"]


def test_an_unknown_distribution_is_given_the_packages_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "OS_RELEASE", tmp_path / "none")
    assert packages.package_of("libMIOpen.so.1") == (
        "the package miopen-hip of AMD's repository (repo.radeon.com), miopen of Fedora or "
        "miopen-hip of Arch"
    )


@pytest.mark.skipif(
    ROCM_PROVIDER not in onnxruntime.get_available_providers(),
    reason="the installed onnxruntime has no provider for ROCm",
)
def test_a_library_that_the_rocm_provider_needs(
    rocm: Path, kernels: Path, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / HIP).symlink_to(rocm / HIP)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = missing()
    assert found["libhipfft.so.0"].startswith("libhipfft.so.0: cannot open shared object file")
    assert "hipfft" in found["libhipfft.so.0"].partition("(the package ")[2]
    assert refusal() == found["GPUs"]


def test_no_gpu(rocm: Path, kernels: Path, driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_DEVICES", "0")
    assert missing() == {"GPUs": "HIP finds no GPU (no device); is HIP_VISIBLE_DEVICES right?"}
    assert refusal() == missing()["GPUs"]


def test_a_gpu_without_kernels(
    rocm: Path,
    kernels: Path,
    driver: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STUB_ARCHITECTURE", "gfx906:sramecc-:xnack-")
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "9.0.6")
    assert missing()["GPU 0"] == (
        "stub (gfx906), 1024 MiB, as HSA_OVERRIDE_GFX_VERSION=9.0.6 has it: " + refusal()
    )
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == f"rocmforge: {refusal()}\n"


def test_no_kernels(rocm: Path, kernels: Path, driver: Path) -> None:
    (kernels / "manifest.json").unlink()
    assert missing()["GPU kernels"].startswith("none were built: `make gpu-kernels`")
    assert refusal().startswith("this build has no GPU kernels")
