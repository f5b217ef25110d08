"""Finds an AMD GPU, loads its kernels and reads its memory."""

import ctypes
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DeviceError
from runtime.ops.gpu import manifest as compiled
from runtime.ops.gpu.manifest import KernelManifest
from runtime.ops.library import native_library

KERNEL_DRIVER = Path("/dev/kfd")
"""The device of AMD's kernel driver: without it ROCm cannot work."""
PROBE_SECONDS = 120.0
"""ROCm's first use of a GPU after a restart may be slow."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the operators have kernels for. Immutable."""

    name: str
    architecture: str
    """Its instruction set: "gfx942"."""

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture})"


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of the GPU that runs the model."""

    free_bytes: int
    total_bytes: int


def find_gpu() -> Gpu:
    """Return HIP's first GPU, with its kernels loaded into the operators' library.

    Raises DeviceError saying what is missing. No library of ROCm is loaded into this process before
    all of it has worked in a child process.
    """
    if not KERNEL_DRIVER.exists():
        raise DeviceError(
            f"there is no AMD GPU here, or its driver is not loaded: {KERNEL_DRIVER} is missing"
        )
    if not os.access(KERNEL_DRIVER, os.R_OK | os.W_OK):
        raise DeviceError(
            f"{KERNEL_DRIVER} may not be used by this user: add it to the group of that file, "
            "which mostly is `render`"
        )
    manifest = KernelManifest.read(compiled.COMPILED)
    if manifest is None:
        raise DeviceError(
            "this build has no GPU kernels: build them with `make gpu-kernels`, which needs Triton"
        )
    said = _probe()
    if (error := said.get("error")) is not None:
        raise DeviceError(error)
    gpu = Gpu(said["name"], said["architecture"])
    if not manifest.supports(gpu.architecture):
        known = ", ".join(sorted(manifest.targets))
        raise DeviceError(f"the GPU {gpu} is none of those this build has kernels for: {known}")
    _add_kernels(manifest, gpu.architecture)
    return gpu


def gpu_memory() -> GpuMemory:
    """Return the current memory of the GPU. Raises DeviceError if HIP does not report it."""
    free, total = ctypes.c_int64(), ctypes.c_int64()
    failure = native_library().rocmforge_hip_memory(ctypes.byref(free), ctypes.byref(total))
    if failure is not None:
        raise DeviceError(f"the GPU's memory is not known: {failure.decode()}")
    return GpuMemory(free.value, total.value)


def _probe() -> dict[str, str]:
    """Return the GPU's properties, found by a child process."""
    command = [sys.executable, str(Path(__file__).with_name("probe.py"))]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"ROCm did not answer within {PROBE_SECONDS:g} seconds; see `rocminfo`"}
    words = child.stderr.strip().splitlines()
    if child.returncode != 0:
        last = f": {words[-1]}" if words else ""
        return {
            "error": "ROCm's libraries fail here (a process that loads them ends with status "
            f"{child.returncode}{last}); see `rocminfo`"
        }
    said: dict[str, str] = json.loads(child.stdout.splitlines()[-1])
    if "error" in said and (missed := re.search(r"with error: (.*)", child.stderr)) is not None:
        said["error"] += f": {missed[1]}"
    return said


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
