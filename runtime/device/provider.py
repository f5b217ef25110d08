"""The execution providers of ONNX Runtime that run a graph on an AMD GPU, and which serves a card.

| Installed package | Card | Provider |
|---|---|---|
| onnxruntime-rocm | one that the package has kernels for | ONNX Runtime's own for ROCm |
| onnxruntime-rocm | another | none: the package is too old for providers of others |
| onnxruntime 1.24 or later | any that our kernels are compiled for | that of our native library |
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike

from runtime.errors import DeviceError
from runtime.ops.library import library_path

ROCM_PROVIDER = "ROCMExecutionProvider"
OWN_PROVIDER = "ROCmForgeExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"
ROCM_PACKAGE_TARGETS = frozenset(
    ("gfx908", "gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1101", "gfx1200", "gfx1201")
)
"""Architectures that onnxruntime-rocm 1.22.2 has kernels of its own for."""
OWN_PROVIDER_SINCE = (1, 24)
"""The first ONNX Runtime that takes providers from other libraries with kernels of their own."""
AMD = 0x1002
"""AMD's vendor number on the PCI bus."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider that serves a card, and why. Immutable."""

    provider: str
    reason: str


def choose_provider(architecture: str) -> Choice:
    """Return the provider for a card, by the table above. Raises DeviceError if none serves it."""
    version = ort.__version__
    if ROCM_PROVIDER in ort.get_available_providers():
        if architecture in ROCM_PACKAGE_TARGETS:
            return Choice(ROCM_PROVIDER, f"onnxruntime-rocm {version} has kernels for it")
        lacking = f"onnxruntime-rocm {version} has no kernels for {architecture}"
    else:
        lacking = f"onnxruntime {version} takes no execution provider of another library"
    if _release(version) < OWN_PROVIDER_SINCE:
        raise DeviceError(
            f"{lacking}: install `onnxruntime` 1.24 or later in its place "
            "(pip uninstall onnxruntime-rocm onnxruntime, then pip install onnxruntime)"
        )
    return Choice(OWN_PROVIDER, f"onnxruntime {version} takes the provider of our own library")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def open_session(
    graph: bytes, options: ort.SessionOptions, provider: str, number: int = 0
) -> ort.InferenceSession:
    """Return a session on a provider and the GPU of that number; what it lacks is the CPU's."""
    if provider == OWN_PROVIDER:
        options.add_provider_for_devices(_own_devices(), {})
        return ort.InferenceSession(graph, options)
    given: dict[str, str] = {}
    if provider == ROCM_PROVIDER:
        given = {"arena_extend_strategy": "kSameAsRequested", "device_id": str(number)}
    return ort.InferenceSession(graph, options, providers=[(provider, given)])


@cache
def _own_devices() -> list[Any]:
    """Register our provider, once in this process; return ONNX Runtime's objects of its device."""
    ort.register_execution_provider_library(OWN_PROVIDER, str(library_path()))
    return [each for each in ort.get_ep_devices() if each.ep_name == OWN_PROVIDER]


class DeviceMemory:
    """The GPU's memory, as ONNX Runtime binds inputs and outputs to it. Immutable."""

    def __init__(self, provider: str, number: int) -> None:
        if provider == OWN_PROVIDER:
            # Our provider has one device, whatever its number is in HIP.
            device = ort.OrtDevice.make("gpu", 0, AMD)
        else:
            # ONNX Runtime's name for the memory of its provider for ROCm.
            device = ort.OrtDevice.make("cuda", number)
        self._device = device._get_c_device()

    # A binding's own methods take no vendor, without which our provider's memory is not found.
    def bind_input(
        self,
        binding: ort.IOBinding,
        name: str,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        address: int,
    ) -> None:
        """Bind memory that stays there while the binding is used."""
        binding._iobinding.bind_input(name, self._device, np.dtype(dtype), shape, address)

    def bind_output(
        self,
        binding: ort.IOBinding,
        name: str,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        address: int,
    ) -> None:
        """Bind memory that stays there while the binding is used."""
        binding._iobinding.bind_output(name, self._device, np.dtype(dtype), shape, address)

    def bind_new_output(self, binding: ort.IOBinding, name: str) -> None:
        """Have ONNX Runtime allocate an output."""
        binding._iobinding.bind_output(name, self._device)
