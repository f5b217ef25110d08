"""Loads and stores that the emulator lacks or computes otherwise than AMD's manuals say."""

import ctypes
import re

import numpy as np

from tests.emulator.wave import refuse, signed


def transposed(wave, inst, f, name):
    """gfx950's ds_read_b64_tr_b16: sixteen lanes read four rows of 16 halves and get columns."""
    addresses = wave.vgpr[f.addr].astype(np.int64) + (f.offset0 | f.offset1 << 8)
    read = [ctypes.string_at(wave.lds + int(address), 8) for address in addresses]
    halves = np.frombuffer(b"".join(read), np.uint16).reshape(4, 4, 16)
    words = np.ascontiguousarray(halves.transpose(0, 2, 1)).reshape(64, 4).view(np.uint32)
    for one in (0, 1):
        wave.write(f.vdst + one, words[:, one])


def half_into(wave, register, lane, value, high):
    old = int(wave.vgpr[register, lane])
    wave.vgpr[register, lane] = old & 0xFFFF | value << 16 if high else old & 0xFFFF0000 | value


def lds_d16(wave, inst, f, name):
    """Loads of 8 or 16 bits into one half of a register: the other half stays."""
    size, sign = (2 if "16_D16" in name else 1), "_I8_" in name
    addresses = wave.vgpr[f.addr].astype(np.int64) + (f.offset0 | f.offset1 << 8) & 0xFFFFFFFF
    for lane in np.flatnonzero(wave.active):
        raw = ctypes.string_at(wave.lds + int(addresses[lane]), size)
        value = int.from_bytes(raw, "little", signed=sign) & 0xFFFF
        half_into(wave, f.vdst, lane, value, "HI" in name)


WIDTHS = {
    "UBYTE": 1, "SBYTE": 1, "USHORT": 2, "SSHORT": 2, "BYTE": 1, "SHORT": 2,
    "DWORD": 4, "DWORDX2": 8, "DWORDX3": 12, "DWORDX4": 16,
    "U8": 1, "I8": 1, "U16": 2, "I16": 2, "B8": 1, "B16": 2,
    "B32": 4, "B64": 8, "B96": 12, "B128": 16,
}  # fmt: skip


def buffer(wave, inst, f, name):
    """Loads and stores through a raw buffer's descriptor: beyond its end zero, or nothing."""
    action, _, kind = name.removeprefix("BUFFER_").partition("_")
    high, d16 = "HI" in kind, "D16" in kind
    bytes_ = WIDTHS[re.sub("_?D16_?|_?HI_?", "", kind)]
    at = f.rsrc if f.has("rsrc") else f.srsrc * 4
    words = [int(word) for word in wave.sgpr[at : at + 4]]
    base, stride, records = words[0] | (words[1] & 0xFFFF) << 32, words[1] >> 16 & 0x3FFF, words[2]
    if stride or f.idxen or f.get("tfe") or f.get("lds"):
        refuse(name, "a structured buffer, or one loaded to LDS")
    offset = signed(f.ioffset, 24) if f.has("ioffset") else f.offset
    offsets = (
        wave.vgpr[f.vaddr].astype(np.int64) if f.offen else np.zeros(wave.lanes, np.int64)
    ) + offset
    base += int(wave.sgpr[f.soffset])
    registers = wave.acc if f.get("acc") else wave.vgpr
    for lane in np.flatnonzero(wave.active):
        first = int(offsets[lane]) & 0xFFFFFFFF
        for part in range(-(-bytes_ // 4)):
            size, place = min(bytes_, 4), first + 4 * part
            within = place + size <= records
            if action == "STORE":
                value = int(registers[f.vdata + part, lane]) >> (16 if high else 0)
                if within:
                    ctypes.memmove(base + place, value.to_bytes(4, "little"), size)
                continue
            raw = ctypes.string_at(base + place, size) if within else bytes(size)
            value = int.from_bytes(
                raw, "little", signed=bool(re.search(r"\b[IS](8|16|BYTE|SHORT)|_I8", kind))
            )
            if d16:
                half_into(wave, f.vdata, lane, value & 0xFFFF, high)
            else:
                registers[f.vdata + part, lane] = value & 0xFFFFFFFF
