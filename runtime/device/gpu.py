"""Finds an AMD GPU, loads its kernels and reads its memory."""

import ctypes
from dataclasses import dataclass

from runtime.device.driver import driver_error
from runtime.device.provider import choose_provider
from runtime.device.rocm import Rocm, RocmDevice, probe
from runtime.errors import DeviceError
from runtime.ops.gpu import manifest as compiled
from runtime.ops.gpu.manifest import KernelManifest
from runtime.ops.gpu.variants import OVERRIDES
from runtime.ops.library import native_library

ANY_GPU = -1
"""In the place of a GPU's number: the first that can be used."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the operators have kernels for. Immutable."""

    name: str
    architecture: str
    """Its instruction set: "gfx942"."""
    number: int
    """As HIP counts, from 0."""
    provider: str
    """The execution provider of ONNX Runtime that serves it."""
    reason: str
    """Why this provider does."""

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture})"


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of the GPU that runs the model."""

    free_bytes: int
    total_bytes: int


def find_gpu(number: int = ANY_GPU) -> Gpu:
    """Return a GPU with its kernels loaded into the operators' library.

    It is the one of that number, or the first that there are kernels for: an integrated GPU may be
    listed before a card. Raises DeviceError saying what is missing. No library of ROCm is loaded
    into this process before all of it has worked in a child process.
    """
    if error := driver_error():
        raise DeviceError(error)
    manifest = KernelManifest.read(compiled.COMPILED)
    if manifest is None:
        raise DeviceError(
            "this build has no GPU kernels: build them with `make gpu-kernels`, which needs Triton"
        )
    rocm = probe()
    if rocm.error:
        raise DeviceError(rocm.error)
    gpu = choose_gpu(rocm, manifest, number)
    native_library().rocmforge_hip_use(rocm.library.encode(), gpu.number)
    _add_kernels(manifest, gpu.architecture)
    return gpu


def choose_gpu(rocm: Rocm, manifest: KernelManifest, number: int) -> Gpu:
    """Return the GPU of that number, or the first that can be used. Raises DeviceError if none."""
    refused: list[str] = []
    for each in rocm.devices:
        if number not in (ANY_GPU, each.number):
            continue
        try:
            return usable(each, manifest)
        except DeviceError as error:
            refused.append(str(error))
    if not refused:
        numbers = ", ".join(f"{each.number} is {each}" for each in rocm.devices)
        raise DeviceError(f"HIP has no GPU {number}: {numbers}")
    raise DeviceError("; ".join(refused))


def usable(device: RocmDevice, manifest: KernelManifest) -> Gpu:
    """Return a device with the provider that serves it. Raises DeviceError if it cannot be used."""
    architecture = device.architecture
    if not manifest.supports(architecture):
        known = ", ".join(manifest.targets)
        other, value = OVERRIDES.get(architecture, ("", ""))
        hint = ""
        if manifest.supports(other):
            hint = f"; with HSA_OVERRIDE_GFX_VERSION={value} it runs those of {other}"
        raise DeviceError(
            f"the GPU {device} is none of those this build has kernels for: {known}{hint}"
        )
    choice = choose_provider(architecture)
    return Gpu(device.name, architecture, device.number, choice.provider, choice.reason)


def gpu_memory() -> GpuMemory:
    """Return the current memory of the GPU. Raises DeviceError if HIP does not report it."""
    free, total = ctypes.c_int64(), ctypes.c_int64()
    failure = native_library().rocmforge_hip_memory(ctypes.byref(free), ctypes.byref(total))
    if failure is not None:
        raise DeviceError(f"the GPU's memory is not known: {failure.decode()}")
    return GpuMemory(free.value, total.value)


def _add_kernels(manifest: KernelManifest, architecture: str) -> None:
    """Pass the kernels of an architecture to the launcher, which loads those a model needs."""
    target = manifest.targets[architecture]
    for name, kernel in target.kernels.items():
        code = manifest.code(kernel)
        failure = native_library().rocmforge_hip_add_kernel(
            name.encode(),
            kernel.symbol.encode(),
            " ".join(kernel.types).encode(),
            " ".join(f"{key} {int(value)}" for key, value in kernel.constants.items()).encode(),
            kernel.warps * target.warp_size,
            kernel.shared,
            code,
            len(code),
        )
        if failure is not None:
            raise DeviceError(f"the GPU kernel {name} cannot be used: {failure.decode()}")
