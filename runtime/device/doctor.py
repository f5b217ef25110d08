"""What a GPU needs: what of it is there, what is missing, and what helps."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import onnxruntime

from runtime.device import driver
from runtime.device.gpu import usable
from runtime.device.packages import package_of
from runtime.device.pool import mebibytes
from runtime.device.provider import ROCM_PROVIDER
from runtime.device.rocm import Rocm, RocmDevice, probe
from runtime.errors import DeviceError
from runtime.ops.gpu import manifest as compiled
from runtime.ops.gpu.manifest import KernelManifest

ROCM_PROVIDER_LIBRARIES = (
    "libhipblas.so.3",
    "libMIOpen.so.1",
    "libhipfft.so.0",
    "librocm_smi64.so.1",
    "libroctracer64.so.4",
)
"""Libraries of ROCm 7 that ONNX Runtime's provider for ROCm loads, besides HIP."""
LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a GPU needs. Immutable.

    subject: what it is; is_there: whether it is as it should be; words: how it is, or what helps.
    """

    subject: str
    is_there: bool
    words: str


def examine() -> Iterator[Finding]:
    """Yield what there is and what is missing, as far as it can be found out."""
    error = driver.driver_error()
    yield Finding("kernel driver", not error, error or f"{driver.KERNEL_DRIVER} can be used")
    rocm = probe()
    yield _hip(rocm)
    yield from _onnxruntime()
    manifest = _manifest()
    if isinstance(manifest, str):
        yield Finding("GPU kernels", False, manifest)
    else:
        yield Finding("GPU kernels", True, f"compiled for {', '.join(manifest.targets)}")
    for device in rocm.devices:
        yield _device(device, rocm, None if isinstance(manifest, str) else manifest)
    if rocm.library and rocm.error:
        yield Finding("GPUs", False, rocm.error)


def _hip(rocm: Rocm) -> Finding:
    if not rocm.library:
        return Finding("ROCm", False, rocm.error)
    return Finding("ROCm", True, f"HIP {rocm.hip_version}, {rocm.library}")


def _onnxruntime() -> Iterator[Finding]:
    """Yield the package, and the libraries that its provider for ROCm cannot load."""
    version = onnxruntime.__version__
    if ROCM_PROVIDER not in onnxruntime.get_available_providers():
        yield Finding("ONNX Runtime", True, f"onnxruntime {version}, which needs HIP alone")
        return
    yield Finding("ONNX Runtime", True, f"onnxruntime-rocm {version}, built for ROCm 7")
    for library in ROCM_PROVIDER_LIBRARIES:
        # In a process of its own, since ROCm's libraries may abort it.
        command = [sys.executable, "-c", LOAD, library]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode != 0:
            last = (child.stderr.splitlines() or [f"status {child.returncode}"])[-1]
            last = last.removeprefix("OSError: ")
            yield Finding(library, False, f"{last} ({package_of(library)} has it)")


def _manifest() -> KernelManifest | str:
    """Return the kernels' manifest, or why there is none."""
    try:
        manifest = KernelManifest.read(compiled.COMPILED)
    except DeviceError as error:
        return str(error)
    return manifest or "none were built: `make gpu-kernels`, which needs Triton"


def _device(device: RocmDevice, rocm: Rocm, manifest: KernelManifest | None) -> Finding:
    subject = f"GPU {device.number}"
    words = f"{device}, {mebibytes(device.memory_bytes)} MiB"
    if rocm.override:
        words += f", as HSA_OVERRIDE_GFX_VERSION={rocm.override} has it"
    if manifest is None:
        return Finding(subject, False, words)
    try:
        gpu = usable(device, manifest)
    except DeviceError as error:
        return Finding(subject, False, f"{words}: {error}")
    return Finding(subject, True, f"{words}: {gpu.provider}, since {gpu.reason}")
