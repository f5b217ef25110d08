"""Reads the manifest of the compiled kernels."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from runtime.errors import DeviceError

COMPILED = Path(__file__).parent / "compiled"
"""Folder where `build` writes kernels; a wheel contains it."""
MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1


class Argument(msgspec.Struct, frozen=True):
    """A kernel's argument. Immutable. type: Triton's, such as "*fp32", "i32" or "i64"."""

    name: str
    type: str


class CompiledKernel(msgspec.Struct, frozen=True):
    """One variant for one architecture. Immutable.

    file: of the code object, below the manifest's folder; symbol: of the function in it;
    shared: bytes of LDS; arguments: in order, without the two null pointers that Triton adds after
    them; constants: values fixed at compile time, by name; registers: vector registers per thread;
    spilled: registers, vector and scalar, that did not fit.
    """

    file: str
    symbol: str
    warps: int
    shared: int
    arguments: tuple[Argument, ...]
    constants: Mapping[str, int]
    registers: int = 0
    spilled: int = 0

    @property
    def types(self) -> list[str]:
        """Return the arguments' types, in order."""
        return [argument.type for argument in self.arguments]


class Target(msgspec.Struct, frozen=True):
    """The kernels of one architecture, by the variant's name. Immutable.

    digest: of the sources and choices they were compiled from.
    """

    warp_size: int
    digest: str
    kernels: Mapping[str, CompiledKernel]


class KernelManifest(msgspec.Struct, frozen=True):
    """Every compiled kernel, by architecture. Immutable."""

    version: int
    triton: str
    targets: Mapping[str, Target]
    folder: str = ""

    @classmethod
    def read(cls, folder: Path = COMPILED) -> "KernelManifest | None":
        """Return the manifest of a folder; None if nothing was compiled.

        Raises DeviceError for one written by another version of this program.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            return None
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.DecodeError as error:
            raise DeviceError(f"{path} is no manifest of GPU kernels: {error}") from None
        if manifest.version != MANIFEST_VERSION:
            raise DeviceError(
                f"{path} has version {manifest.version}, not {MANIFEST_VERSION}: "
                "run `make gpu-kernels`"
            )
        return msgspec.structs.replace(manifest, folder=str(folder))

    def supports(self, arch: str) -> bool:
        """Whether kernels for `arch`, such as "gfx942", were compiled."""
        return arch in self.targets

    def code(self, kernel: CompiledKernel) -> bytes:
        """Return a kernel's code object. Raises DeviceError if it cannot be read."""
        path = Path(self.folder) / kernel.file
        try:
            return path.read_bytes()
        except OSError as error:
            raise DeviceError(f"{path} cannot be read: {error.strerror}") from None
