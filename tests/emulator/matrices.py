"""Products of matrices by WMMA and MFMA, in NumPy."""

from types import SimpleNamespace

import numpy as np

from tests.emulator.checkout import rdna4
from tests.emulator.wave import VGPRS, refuse

of_target = SimpleNamespace(flushes_halves=False, accumulates_apart=False)
"""What differs among CDNA's targets, which are one to the emulator: the matrix instructions of
gfx90a flush halves that are subnormal, and those of gfx908 always have C and D in accumulation
registers."""


def floats(words, kind):
    """Registers [R, lanes] -> float32 [lanes, elements] of their elements in order."""
    words = np.ascontiguousarray(words.T)
    if kind == "F32":
        return words.view(np.float32)
    if kind == "BF16":
        return (words.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return words.view(np.float16).astype(np.float32)


def accumulator(wave, code, registers, file):
    """C: registers, or a constant in all of them."""
    if code >= VGPRS:
        return file[code - VGPRS : code - VGPRS + registers].view(np.float32).copy()
    return np.full((registers, wave.lanes), wave.sgpr[code], np.uint32).view(np.float32)


def wmma(wave, inst, f, name):
    """v_wmma_f32_16x16x16_(b)f16 of RDNA3 and 4: C may be a constant."""
    if f.neg & 3 or f.neg_hi & 3:
        refuse(name, "negated sources")
    is_rdna4 = isinstance(inst, rdna4.VOP3P)
    width, kind = (4 if is_rdna4 else 8), name.rsplit("_", 1)[1]
    a, b = (
        floats(wave.vgpr[code - VGPRS : code - VGPRS + width], kind) for code in (f.src0, f.src1)
    )
    c = accumulator(wave, f.src2, 8, wave.vgpr)
    if f.neg & 4:
        c = -c
    if is_rdna4:  # Sixteen of a row's elements: eight in a lane, eight in the lane 16 further.
        a, b = (np.concatenate([one[:16], one[16:]], axis=1) for one in (a, b))
    product = a[:16] @ b[:16].T
    register, lane = np.arange(8)[:, None], np.arange(32)[None, :]
    row = register + 8 * (lane // 16) if is_rdna4 else 2 * register + lane // 16
    d = (product[row, lane % 16] + c).astype(np.float32).view(np.uint32)
    for one in range(8):
        wave.write(f.vdst + one, d[one])


def mfma(wave, inst, f, name, elements):
    """v_mfma_f32 of one block of 16 x 16 or 32 x 32; `elements` of a row are in a lane."""
    kind, side = name.rsplit("_", 1)[1], 32 if "_32X32" in name else 16
    words = elements if kind == "F32" else elements // 2
    sources = []
    for code, bit in ((f.src0, 1), (f.src1, 2)):
        file = wave.acc if f.acc & bit else wave.vgpr
        values = floats(file[code - VGPRS : code - VGPRS + words], kind)
        if of_target.flushes_halves and kind == "F16":
            values = np.where(np.abs(values) < 2.0**-14, np.float32(0), values)
        groups = values.reshape(64 // side, side, elements)
        sources.append(np.concatenate(list(groups), axis=1))
    file = wave.acc if f.acc_cd or of_target.accumulates_apart else wave.vgpr
    count = side * side // 64
    c = accumulator(wave, f.src2, count, file)
    product = sources[0] @ sources[1].T
    register, lane = np.arange(count)[:, None], np.arange(64)[None, :]
    row = 4 * (64 // side) * (register // 4) + 4 * (lane // side) + register % 4
    d = (product[row, lane % side] + c).astype(np.float32).view(np.uint32)
    for one in range(count):
        file[f.vdst + one][wave.active] = d[one][wave.active]
