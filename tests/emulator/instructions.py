"""Which instructions are computed here, because the emulator lacks them or gets them wrong.

The corrections stand between the emulator's decoder and its compiler: `emu._decode_at` gives the
instruction at an address and what runs it, and for those that `handler` names, a function of ours.
Each has a test of one instruction in test_instructions.py. Importing this module installs them.
"""

import ctypes
import functools
import re
from types import SimpleNamespace

from tests.emulator.checkout import cdna, emu, rdna3, rdna4
from tests.emulator.lanes import bpermute, dpp16, low_registers, permlane, swap, swizzle
from tests.emulator.matrices import mfma, of_target, wmma
from tests.emulator.memory import buffer, lds_d16, transposed
from tests.emulator.wave import VGPRS, Fields, Wave, refuse

DPP16, DPP8 = 250, (233, 234)
CACHES = re.compile(r"(BUFFER|GLOBAL|S)_(GL[01]_|DCACHE_)?(INV|WB|WBINV|WBL2)(_VOL)?$")
OF_16_BITS = tuple(getattr(cdna, name) for name in ("VOP1", "VOP2", "VOPC") if hasattr(cdna, name))
SUBWORD = tuple(
    kind for name, kind in vars(cdna).items() if "SDWA" in name and isinstance(kind, type)
)
DPP = tuple(getattr(m, name) for m in (rdna3, rdna4, cdna) for name in ("VOP1_DPP16", "VOP2_DPP16"))
BUFFERS = (rdna3.MUBUF, rdna4.VBUFFER, cdna.MUBUF)


class Corrected:
    """What the emulator's loop gets in place of a decoded instruction. Immutable."""

    def __init__(self, name, size):
        self.name, self._size = name, size

    def size(self):
        return self._size

    def __repr__(self):
        return f"corrected {self.name}"


def nothing(wave, inst, f, name):
    """Invalidate or write back a cache: there are none here."""


def decoded(code, arch):
    word = int.from_bytes(code[:4], "little")
    for name, kind, top in (("rdna3", rdna3.MUBUF, 0b111000), ("rdna4", rdna4.VBUFFER, 0b110001)):
        if arch == name and word >> 26 == top:
            return kind.from_bytes(code)
    return emu.decode_inst(code, arch)


def handler(inst, f, name):
    """Our function for an instruction, or None where the emulator's own is right."""
    if CACHES.match(name):
        return nothing
    if isinstance(inst, DPP):
        return None if "READFIRSTLANE" in name else dpp16
    if isinstance(inst, BUFFERS) and re.match(
        "BUFFER_(LOAD|STORE)_(?!FORMAT|D16_FORMAT|LDS)", name
    ):
        return buffer
    if re.match(r"V_PERMLANEX?16_B32", name):
        return permlane
    if re.match(r"V_PERMLANE(16|32)_SWAP_B32", name) and isinstance(inst, cdna.VOP1):
        return swap
    if name == "DS_READ_B64_TR_B16":
        return transposed
    if name.startswith("DS_SWIZZLE_B32"):
        return swizzle
    if name.startswith("DS_BPERMUTE_B32"):
        return bpermute
    if re.match(r"DS_(LOAD|READ)_[UI](8|16)_D16", name):
        return lds_d16
    if re.match(r"V_WMMA_F32_16X16X16_B?F16$", name):
        return wmma
    if name.startswith(("V_WMMA", "V_SWMMAC")) and f.src2 < VGPRS:
        refuse(name, "a constant as C")
    found = re.match(r"V_MFMA_F32_(16X16|32X32)X(\d+)_(F16|BF16|F32)$", name)
    if found:
        lanes_of_row = 2 if found[1] == "32X32" else 4
        elements = int(found[2]) // lanes_of_row
        if elements * lanes_of_row == int(found[2]) and (elements == 1) == (found[3] == "F32"):
            return functools.partial(mfma, elements=elements)
    if name.startswith("V_MFMA") and of_target.accumulates_apart:
        refuse(name, "its accumulators on gfx908")
    for source in ("src0", "src1"):
        if (
            f.has(source)
            and name.startswith("V_")
            and f.get(source) in (*DPP8, DPP16)
            and not f.has("vsrc0")
        ):
            refuse(name, "DPP8, or DPP of three operands")
    if isinstance(inst, OF_16_BITS) and not isinstance(inst, SUBWORD):
        of_16 = 16 in (inst.canonical_op_bits.get(which) for which in ("d", "s0", "s1"))
        high = f.src0 >= VGPRS + 128 or any(f.get(which) >= 128 for which in ("vdst", "vsrc1"))
        if of_16 and high:
            return low_registers
    return None


_decode_at = emu._decode_at


def _decode_corrected(pc, arch):
    code = ctypes.string_at(pc, 16)
    inst = decoded(code, arch)
    name = getattr(getattr(inst, "op", None), "name", "")
    name = re.sub(r"_E(32|64)$", "", name)
    f = Fields(inst, code)
    run = handler(inst, f, name)
    if run is None:
        return _decode_at(pc, arch)
    size, lanes = inst.size(), emu._wave_size(arch)
    wants_more = run in (dpp16, low_registers)

    def runner(*buffers):
        wave = Wave(buffers, lanes)
        at = int(wave.sgpr[emu.PC_LO_IDX]) | int(wave.sgpr[emu.PC_HI_IDX]) << 32
        if wants_more:
            run(wave, inst, f, name, buffers, arch)
        else:
            run(wave, inst, f, name)
        wave.go(at + size)

    program = SimpleNamespace(arg=SimpleNamespace(globals=list(range(6))))
    return (program, SimpleNamespace(fxn=runner)), Corrected(name, size)


emu._decode_at = _decode_corrected
