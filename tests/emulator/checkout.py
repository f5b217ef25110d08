"""tinygrad's emulator of AMD instructions, from a checkout that TINYGRAD names.

The checkout stays as it is: what the emulator lacks on this host is assigned at import. Without
the variable importing this module skips the importing tests.
"""

import functools
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CHECKOUT = os.environ.get("TINYGRAD", "")
if not (Path(CHECKOUT) / "test" / "mockgpu" / "amd" / "emu.py").is_file():
    pytest.skip(
        "TINYGRAD names no checkout of tinygrad with test/mockgpu/amd", allow_module_level=True
    )
sys.path.insert(0, CHECKOUT)
# Python's own tests are a package of this name, too.
sys.modules["test"] = of_checkout = ModuleType("test")
of_checkout.__path__ = [str(Path(CHECKOUT) / "test")]
os.environ.setdefault("DEV", "CPU:LLVM")

import tinygrad.runtime.ops_cpu as ops_cpu  # noqa: E402
from test.mockgpu.amd import emu  # noqa: E402
from tinygrad.dtype import dtypes  # noqa: E402
from tinygrad.renderer.llvmir import CPULLVMRenderer  # noqa: E402
from tinygrad.runtime.autogen.amd.cdna import ins as cdna  # noqa: E402
from tinygrad.runtime.autogen.amd.rdna3 import ins as rdna3  # noqa: E402
from tinygrad.runtime.autogen.amd.rdna4 import ins as rdna4  # noqa: E402
from tinygrad.runtime.support.compiler_llvm import LLVMCompiler  # noqa: E402

__all__ = ["CPULLVMRenderer", "cdna", "dtypes", "emu", "rdna3", "rdna4"]
TTMP8 = 116


def _without_clang():
    """Leave the queue's helper programs unmade, which nothing here runs: no C compiler is here."""
    theirs: Any = ops_cpu.CPUProgram

    class Program(theirs):  # type: ignore[misc]
        def __init__(self, device, elf, *rest, **named):
            if elf is not None:
                super().__init__(device, elf, *rest, **named)

    ops_cpu.CPUProgram = Program
    ops_cpu.do_to_program = lambda *_: SimpleNamespace(to_elf=lambda: None)


if shutil.which("clang") is None:
    _without_clang()

# Halves are computed as halves: where they are floats in between, subnormal ones become zero.
_dtypes_of_llvm = CPULLVMRenderer.supported_dtypes
CPULLVMRenderer.supported_dtypes = lambda self: _dtypes_of_llvm(self) | {dtypes.half}

# Subnormal numbers are kept: all of Triton's kernels ask for that in their float mode.
emu._get_ftz_lib = lambda: (None, 0)

_compile = LLVMCompiler.compile


def _compile_for_any_llvm(self, source):
    """LLVM 15 wants pointers without a pointee's type and a declaration of each intrinsic."""
    source = re.sub(r"(<\d+ x \w+>|\b[a-z]\w*)\*+", "ptr", source)
    for result, name, arguments in sorted(
        set(re.findall(r"call (?:\w+ )*?(<[^>]+>|\w+) @(llvm\.[\w.]+)\(([^)]*)\)", source))
    ):
        if not re.search(rf"^declare .*@{re.escape(name)}\(", source, re.M):
            kinds = ", ".join(re.findall(r"(?:^|,)\s*(<[^>]*>|\S+)", arguments))
            source += f"\ndeclare {result} @{name}({kinds})\n"
    return _compile(self, source)


LLVMCompiler.compile = _compile_for_any_llvm


_init_wave = emu._init_wave


@functools.wraps(_init_wave)
def _init_wave_with_number(lib, wave_start, *rest, **named):
    """RDNA4: bits 25 to 29 of ttmp8 are the wave's number in its group."""
    state = _init_wave(lib, wave_start, *rest, **named)
    if len(rest) > 7 and rest[7] == "rdna4":
        state._write_sgpr(TTMP8, wave_start // state.wave_size << 25)
    return state


emu._init_wave = _init_wave_with_number
