"""The operator library that stops at memory errors and undefined behaviour, and what runs it."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path

from runtime.ops import library
from tests.native_build import ROOT, build_library

PATH_VARIABLE = "SANITIZED_LIBRARY"
"""Tells a process which library to load; only `load_instead` reads it."""
PRELOADED = ("libasan.so", "libubsan.so", "libstdc++.so.6")
"""Before all else: ASan's allocator, and the C++ runtime whose exceptions it wants to see."""
OPTIONS = {
    # Python and ONNX Runtime keep memory to their end, and free in one library what another made.
    # Bus errors are the library's own to handle.
    "ASAN_OPTIONS": "detect_leaks=0:alloc_dealloc_mismatch=0:detect_stack_use_after_return=1:"
    "strict_string_checks=1:allocator_may_return_null=1:handle_sigbus=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    # So that arrays stand between red zones, small ones too.
    "PYTHONMALLOC": "malloc",
    # Tests that start pytest again load the library there too.
    "PYTEST_ADDOPTS": "-p tests.sanitize.plugin",
}


def environment() -> dict[str, str]:
    """Environment of a process that runs the sanitized library, which is built where needed."""
    sanitized = build_library("sanitize", "ROCMFORGE_SANITIZE")
    return {
        **os.environ,
        **OPTIONS,
        "LD_PRELOAD": " ".join(map(_of_compiler, PRELOADED)),
        # ONNX Runtime looks for its own where the caller of dlopen is, which is ASan here.
        "LD_LIBRARY_PATH": str(Path(str(files("onnxruntime"))) / "capi"),
        "PYTHONPATH": str(ROOT),
        PATH_VARIABLE: str(sanitized),
    }


def load_instead() -> None:
    """Make this process load the library that its parent named. Before any other is loaded.

    Raises RuntimeError where no sanitizer would watch it.
    """
    library.LIBRARY_NAME = os.environ[PATH_VARIABLE]
    library.native_library()
    loaded = Path("/proc/self/maps").read_text()
    for name in ("libasan", "libubsan", library.LIBRARY_NAME):
        if name not in loaded:
            raise RuntimeError(f"{name} is not loaded")


def _of_compiler(name: str) -> str:
    compiler = os.environ.get("CXX", "c++")
    found = subprocess.run(
        [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return str(Path(found).resolve())
