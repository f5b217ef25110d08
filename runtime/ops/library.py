"""The native operator library: its path, its C functions and its instruction set."""

import ctypes
from functools import cache
from importlib.resources import files
from itertools import count, takewhile
from pathlib import Path

from runtime.errors import DeviceError

LIBRARY_NAME = "librocmforge_ops.so"


def library_path() -> Path:
    """Return the built operator library, next to this module. Raises DeviceError if missing."""
    path = Path(str(files("runtime.ops") / LIBRARY_NAME))
    if not path.is_file():
        raise DeviceError(f"The operator library {path} is not built: run `make setup`.")
    return path


@cache
def native_library() -> ctypes.CDLL:
    """Return the library's plain C functions. Raises DeviceError if it is not built."""
    library = ctypes.CDLL(str(library_path()))
    library.rocmforge_instruction_set.restype = ctypes.c_char_p
    library.rocmforge_block_format.argtypes = [ctypes.c_int64]
    library.rocmforge_block_format.restype = ctypes.c_char_p
    library.rocmforge_set_instruction_set.argtypes = [ctypes.c_char_p]
    library.rocmforge_set_instruction_set.restype = ctypes.c_int
    library.rocmforge_panel_rows.restype = ctypes.c_int64
    library.rocmforge_packed_block_bytes.argtypes = [ctypes.c_char_p]
    library.rocmforge_packed_block_bytes.restype = ctypes.c_int64
    library.rocmforge_pack.argtypes = [
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    library.rocmforge_pack.restype = None
    library.rocmforge_add_checksum.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.POINTER(ctypes.c_uint32),
    ]
    library.rocmforge_add_checksum.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.rocmforge_summarize_logits.argtypes = [pointer, number, number, *([pointer] * 3)]
    library.rocmforge_summarize_logits.restype = None
    library.rocmforge_sample_rows.argtypes = [ctypes.c_char_p, number, pointer]
    library.rocmforge_sample_rows.restype = None
    library.rocmforge_keep_tokens.argtypes = [ctypes.c_char_p, pointer, pointer]
    library.rocmforge_keep_tokens.restype = number
    library.rocmforge_use_row_threads.argtypes = [number]
    library.rocmforge_use_row_threads.restype = None
    library.rocmforge_guard_range.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t]
    library.rocmforge_guard_faults.argtypes = [ctypes.c_int]
    library.rocmforge_guard_faults.restype = ctypes.c_int64
    library.rocmforge_close_guard.argtypes = [ctypes.c_int]
    library.rocmforge_close_guard.restype = None
    library.rocmforge_hip_use.argtypes = [ctypes.c_char_p, ctypes.c_int64]
    library.rocmforge_hip_use.restype = None
    library.rocmforge_hip_add_kernel.argtypes = [
        *([ctypes.c_char_p] * 4),
        *([ctypes.c_int64] * 2),
        ctypes.c_char_p,
        ctypes.c_int64,
    ]
    library.rocmforge_hip_failed_allocations.argtypes = []
    library.rocmforge_hip_failed_allocations.restype = ctypes.c_int64
    library.rocmforge_hip_memory.argtypes = [ctypes.POINTER(ctypes.c_int64)] * 2
    library.rocmforge_hip_allocate.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p)]
    library.rocmforge_hip_free.argtypes = [ctypes.c_void_p]
    library.rocmforge_hip_free.restype = None
    library.rocmforge_hip_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    library.rocmforge_hip_make_candidates.argtypes = [
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_int64),
    ]
    library.rocmforge_hip_find_candidates.argtypes = [
        *([ctypes.c_void_p] * 2),
        *([ctypes.c_int64] * 2),
        ctypes.c_void_p,
    ]
    library.rocmforge_hip_free_candidates.argtypes = [ctypes.c_void_p]
    library.rocmforge_hip_free_candidates.restype = None
    can_fail = ("add_kernel", "memory", "allocate", "read", "make_candidates", "find_candidates")
    for name in can_fail:
        getattr(library, f"rocmforge_hip_{name}").restype = ctypes.c_char_p
    return library


@cache
def block_formats() -> frozenset[str]:
    """Return the names of the block formats that QuantMatMul and RowLookup read."""
    names = map(native_library().rocmforge_block_format, count())
    return frozenset(name.decode() for name in takewhile(lambda name: name is not None, names))


def instruction_set() -> str:
    """Return the instruction set of the CPU kernels: "avx512", "avx2" or "scalar"."""
    name: bytes = native_library().rocmforge_instruction_set()
    return name.decode()


def set_instruction_set(name: str) -> None:
    """Use instruction set `name` in this process ("best" = the widest). Not during a session.

    Raises DeviceError if the processor or the name is not supported.
    """
    if native_library().rocmforge_set_instruction_set(name.encode()) != 0:
        raise DeviceError(f"This processor cannot run the instruction set {name!r}.")
