"""Moves between the lanes of a wave, as AMD's manuals define them."""

import ctypes
import functools
import re

import numpy as np

from tests.emulator.checkout import emu
from tests.emulator.wave import VGPRS, refuse


def dpp16_lanes(control, lanes):
    """(lane that each lane reads, whether there is one), of a DPP16 control."""
    lane = np.arange(lanes)
    row, column, amount = lane & ~15, lane & 15, control & 15
    within = np.ones(lanes, bool)
    kind = control >> 4
    if control < 0x100:
        return (lane & ~3) | np.array(
            [control >> 2 * (one & 3) & 3 for one in lane.tolist()]
        ), within
    if kind == 0x10:
        return row + column + amount, column + amount < 16
    if kind == 0x11:
        return row + column - amount, column >= amount
    if kind == 0x12:
        return row | (column - amount & 15), within
    if control == 0x140:
        return lane ^ 15, within
    if control == 0x141:
        return lane ^ 7, within
    if lanes == 64 and control == 0x142:  # row_bcast:15
        return row - 1, lane >= 16
    if lanes == 64 and control == 0x143:  # row_bcast:31
        return np.full(lanes, 31), lane >= 32
    if kind == 0x15:  # row_share, row_newbcast
        return row | amount, within
    if kind == 0x16 and lanes == 32:
        return lane ^ amount, within
    refuse("DPP16", f"control {control:#x}")


@functools.cache
def _kept_code(code):
    buffer = ctypes.create_string_buffer(code + bytes(32))
    return buffer, ctypes.addressof(buffer)


def run_instead(wave, buffers, arch, code):
    """Run another instruction, corrected or not; the caller sets the place to go on."""
    _buffer, at = _kept_code(code)
    (program, runner), _inst = emu._decode_at(at, arch)
    wave.go(at)
    runner.fxn(*[buffers[which] for which in program.arg.globals])


def dpp16(wave, inst, f, name, buffers, arch):
    """A VOP1 or VOP2 whose first source comes from other lanes, read before any lane is written."""
    lane, within = dpp16_lanes(f.dpp, wave.lanes)
    lane = np.where(within, lane, 0)
    if not f.get("fi"):
        within = within & wave.active[lane]
    every = np.arange(wave.lanes)
    chosen = (f.row_mask >> every // 16 & 1 & (f.bank_mask >> every % 16 // 4)).astype(bool)
    if not f.bc:
        chosen &= within
    values = np.where(within, wave.vgpr[f.vsrc0][lane], 0).astype(np.uint32)
    is_f32 = "F32" in name and not re.search("CVT|F16", name)
    modifiers = f.src0_neg | f.src0_abs | f.src1_neg | f.src1_abs
    if (modifiers and not is_f32) or "_CO_" in name or f.src1_neg or f.src1_abs:
        refuse(name, "DPP16 with these modifiers")
    if f.src0_abs:
        values &= np.uint32(0x7FFFFFFF)
    if f.src0_neg:
        values ^= np.uint32(0x80000000)
    if name.startswith("V_MOV_B32"):
        return wave.write(f.vdst, values, wave.active & chosen)
    used = {f.vdst, f.get("vsrc1")} if f.has("vsrc1") else {f.vdst}
    spare = next(r for r in range(127, 0, -1) if r not in used)
    saved, mask = wave.vgpr[spare].copy(), wave.exec
    wave.vgpr[spare] = values
    wave.exec = mask & sum(1 << int(one) for one in np.flatnonzero(chosen))
    plain = (f._bits & 0xFFFFFFFF & ~0x1FF | VGPRS + spare).to_bytes(4, "little")
    run_instead(wave, buffers, arch, plain)
    wave.exec = mask
    wave.vgpr[spare] = saved


def permlane(wave, inst, f, name):
    """v_permlane(x)16_b32: selectors from any scalar source, a literal among them."""
    literal = f._bits >> 64 & 0xFFFFFFFF
    low, high = (int(wave.source(code, literal)[0]) for code in (f.src1, f.src2))
    lane = np.arange(wave.lanes)
    column = np.array([(low | high << 32) >> 4 * (one & 15) & 15 for one in lane.tolist()])
    reads = (lane & ~15 ^ (16 if "PERMLANEX" in name else 0)) | column
    values, where = wave.source(f.src0)[reads], wave.active
    if not f.opsel & 1:
        there = wave.active[reads]
        values = np.where(there, values, 0)
        if not f.opsel & 2:
            where = where & there
    wave.write(f.vdst, values, where)


def swizzle(wave, inst, f, name):
    """ds_swizzle_b32 in groups of 32 lanes (and, or, xor masks) or of four."""
    pattern, lane = f.offset0 | f.offset1 << 8, np.arange(wave.lanes)
    if pattern >= 0xC000:
        refuse(name, f"pattern {pattern:#x}")
    if pattern & 0x8000:
        reads = (lane & ~3) | np.array([pattern >> 2 * (one & 3) & 3 for one in lane.tolist()])
    else:
        reads = (lane & ~31) | ((lane & pattern & 31 | pattern >> 5 & 31) ^ pattern >> 10 & 31)
    wave.write(f.vdst, np.where(wave.active[reads], wave.vgpr[f.addr][reads], 0))


def bpermute(wave, inst, f, name):
    """ds_bpermute_b32: the lane's number is taken modulo the wave."""
    offset = f.offset0 | f.offset1 << 8
    reads = ((wave.vgpr[f.addr].astype(np.int64) + offset) >> 2) % wave.lanes
    wave.write(f.vdst, np.where(wave.active[reads], wave.vgpr[f.data0][reads], 0))


def swap(wave, inst, f, name):
    """gfx950's v_permlane16_swap_b32 and 32: odd rows or halves with even ones of another."""
    if not wave.active.all():
        refuse(name, "lanes that are off")
    distance, lane = 32 if "32_SWAP" in name else 16, np.arange(64)
    low = lane[lane & distance == 0]
    ours, theirs = wave.vgpr[f.vdst], wave.vgpr[f.src0 - VGPRS]
    kept = theirs[low].copy()
    theirs[low] = ours[low + distance]
    ours[low + distance] = kept


def low_registers(wave, inst, f, name, buffers, arch):
    """CDNA, operands of 16 bits: v128 and up are registers there, not upper halves as on RDNA3."""
    fields = [field for field in ("vdst", "vsrc1", "src0") if f.has(field)]
    named = {field: getattr(f, field) - (VGPRS if field == "src0" else 0) for field in fields}
    named = {field: register for field, register in named.items() if register >= 0}
    free = iter(sorted(set(range(128)) - set(named.values())))
    place = {register: next(free) for register in sorted(set(named.values())) if register >= 128}
    saved = {low: wave.vgpr[low].copy() for low in place.values()}
    bits = f._bits & ((1 << 8 * inst.size()) - 1)
    for field, register in named.items():
        if register in place:
            at = getattr(type(inst), field).lo
            bits += place[register] - register << at
    for register, low in place.items():
        wave.vgpr[low] = wave.vgpr[register]
    run_instead(wave, buffers, arch, bits.to_bytes(inst.size(), "little"))
    for register, low in place.items():
        wave.vgpr[register] = wave.vgpr[low]
        wave.vgpr[low] = saved[low]
