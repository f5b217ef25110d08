"""Where the native operator library is, and what it chose to run on."""

import ctypes
from functools import cache
from importlib.resources import files
from pathlib import Path

from runtime.errors import DeviceError

LIBRARY_NAME = "librocmforge_ops.so"


def library_path() -> Path:
    """The built operator library, next to this module. Raises DeviceError when it is missing."""
    path = Path(str(files("runtime.ops") / LIBRARY_NAME))
    if not path.is_file():
        raise DeviceError(f"The operator library {path} is not built: run `make setup`.")
    return path


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path()))
    library.rocmforge_instruction_set.restype = ctypes.c_char_p
    library.rocmforge_set_instruction_set.argtypes = [ctypes.c_char_p]
    library.rocmforge_set_instruction_set.restype = ctypes.c_int
    return library


def instruction_set() -> str:
    """The instruction set the CPU kernels run on: "avx512", "avx2" or "scalar"."""
    name: bytes = _library().rocmforge_instruction_set()
    return name.decode()


def set_instruction_set(name: str) -> None:
    """Run on `name` in this process ("best" = the widest here). Not while a session runs.

    Raises DeviceError when the processor or the name is not supported.
    """
    if _library().rocmforge_set_instruction_set(name.encode()) != 0:
        raise DeviceError(f"This processor cannot run the instruction set {name!r}.")
