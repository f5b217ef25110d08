"""The stub's device as a test's own process sees it: kernels to launch, and who computes them.

Only for a process that `LD_LIBRARY_PATH` leads to the stub's libraries.
"""

import ctypes
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import msgspec
import numpy as np

from runtime.ops.gpu.build import ALIGNMENT
from runtime.ops.gpu.manifest import MANIFEST_NAME, MANIFEST_VERSION
from runtime.ops.gpu.variants import ALIGNED, TARGETS, variants
from tests.rocm.kernels import Kernels, Launch

ARCHITECTURE = "gfx942"
VALUE_TYPES: dict[str, Any] = {
    "pointer": ctypes.c_uint64,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "fp32": ctypes.c_float,
}
EXECUTOR = ctypes.CFUNCTYPE(
    None,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_uint32,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
)


def write_manifest(folder: Path, architecture: str = ARCHITECTURE) -> None:
    """A manifest of every kernel, as a build writes it, with code objects that the stub takes."""
    folder.mkdir(parents=True, exist_ok=True)
    kernels = {}
    for variant in variants(architecture):
        (folder / variant.name).write_bytes(b"STUB:" + variant.name.encode())
        kernels[variant.name] = {
            "file": variant.name,
            "symbol": variant.function,
            "warps": variant.warps,
            "shared": 0,
            "arguments": [{"name": name, "type": kind} for name, kind in variant.arguments],
            "constants": {name: int(value) for name, value in variant.constants.items()},
        }
    target = {"warp_size": TARGETS[architecture], "digest": "", "kernels": kernels}
    manifest = {"version": MANIFEST_VERSION, "triton": "", "targets": {architecture: target}}
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))


class Computes(Protocol):
    """What computes a launch."""

    def run(self, launch: Launch) -> None:
        """Do what the kernel does, on the memory that its arguments name."""


class StubDevice:
    """The stub's counters, and the executor of its launches. One a process."""

    def __init__(self) -> None:
        self._hip = ctypes.CDLL("libamdhip64.so.7")
        self._hip.stub_count.restype = ctypes.c_int64
        self._kernels: Computes = Kernels()
        self._variants = {variant.name: variant for variant in variants(ARCHITECTURE)}
        self.launches: Counter[str] = Counter()
        """By the kernel's whole name."""
        self.streams: set[int | None] = set()
        self.failure: BaseException | None = None
        """The first that a kernel met: what is computed after it means nothing."""
        self._callback = EXECUTOR(self._execute)
        self._hip.stub_set_executor(self._callback)

    def count(self, what: str) -> int:
        """A counter of the stub."""
        return int(self._hip.stub_count(what.encode()))

    def set_memory(self, size: int) -> None:
        """Set the device's memory in bytes."""
        self._hip.stub_set_memory(ctypes.c_size_t(size))

    def compute_with(self, kernels: Computes) -> None:
        """Hand launches to others than the NumPy functions, until the next `begin`."""
        self._kernels = kernels

    def begin(self) -> None:
        """Forget what was launched and which weights were unpacked."""
        self._kernels = Kernels()
        self.launches.clear()
        self.streams.clear()
        self.failure = None

    def _check_pointer(self, name: str, address: int) -> None:
        """A pointer is null or to the device's memory, and aligned as kernels are compiled for."""
        assert address % ALIGNMENT == 0, f"{name} is not aligned"
        on_device = self._hip.stub_is_on_device(ctypes.c_void_p(address))
        assert address == 0 or on_device, f"{name} is not in the device's memory"

    def _execute(
        self,
        name: bytes,
        grid: list[int],
        threads: int,
        shared: int,
        stream: int | None,
        given: list[int],
    ) -> None:
        try:
            variant = self._variants[name.decode()]
            assert threads == variant.warps * TARGETS[ARCHITECTURE]
            arguments: dict[str, Any] = {}
            for (argument, kind), place in zip(variant.arguments, given, strict=False):
                value_type = VALUE_TYPES["pointer" if kind.startswith("*") else kind]
                arguments[argument] = value_type.from_address(place).value
                if kind.startswith("*"):
                    self._check_pointer(argument, arguments[argument])
                elif kind == "i32" and argument in ALIGNED:
                    value = arguments[argument]
                    assert value % ALIGNMENT == 0, f"{variant.name} is given {argument}={value}"
            scratch = [ctypes.c_uint64.from_address(given[len(arguments) + i]) for i in (0, 1)]
            assert [each.value for each in scratch] == [0, 0]
            kernel, _, kind = variant.name.partition(".")
            self.launches[variant.name] += 1
            self.streams.add(stream)
            constants = {key: int(value) for key, value in variant.constants.items()}
            shape = (grid[0], grid[1], grid[2])
            # Where the stub left out an operator of ONNX itself, values mean nothing.
            with np.errstate(all="ignore"):
                self._kernels.run(
                    Launch(kernel, kind, SimpleNamespace(**arguments), constants, shape)
                )
        except BaseException as error:
            self.failure = self.failure or error
