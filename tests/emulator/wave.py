"""A wave's registers and the fields of an instruction, as the corrections read and write them."""

import ctypes

import numpy as np

from tests.emulator.checkout import emu

EXEC, LITERAL, VGPRS = 126, 255, 256


class Wave:
    """The registers and memories of a wave, as views."""

    def __init__(self, buffers, lanes):
        sgpr, vgpr, _vmem, lds, _scratch, acc = (int(at.value) for at in buffers)
        self.lanes = lanes
        self.sgpr = np.ctypeslib.as_array(
            (ctypes.c_uint32 * (emu.PC_HI_IDX + 1)).from_address(sgpr)
        )
        table = ctypes.c_uint32 * (256 * lanes)
        self.vgpr = np.ctypeslib.as_array(table.from_address(vgpr)).reshape(256, lanes)
        self.acc = np.ctypeslib.as_array(table.from_address(acc)).reshape(256, lanes)
        self.lds = lds

    @property
    def exec(self):
        return int(self.sgpr[EXEC]) | (int(self.sgpr[EXEC + 1]) << 32 if self.lanes == 64 else 0)

    @exec.setter
    def exec(self, mask):
        self.sgpr[EXEC] = mask & 0xFFFFFFFF
        if self.lanes == 64:
            self.sgpr[EXEC + 1] = mask >> 32

    @property
    def active(self):
        mask = self.exec
        return np.array([mask >> lane & 1 for lane in range(self.lanes)], bool)

    def go(self, at):
        self.sgpr[emu.PC_LO_IDX], self.sgpr[emu.PC_HI_IDX] = at & 0xFFFFFFFF, at >> 32

    def source(self, code, literal=0):
        """The 32 bits of a source operand in each lane."""
        if code >= VGPRS:
            return self.vgpr[code - VGPRS].copy()
        return np.full(self.lanes, literal if code == LITERAL else self.sgpr[code], np.uint32)

    def write(self, register, values, where=None):
        where = self.active if where is None else where
        self.vgpr[register][where] = np.asarray(values, np.uint32)[where]


class Fields:
    """The bits of an instruction's fields by their names."""

    def __init__(self, inst, code):
        self._kind, self._bits = type(inst), int.from_bytes(code, "little")

    def __getattr__(self, name):
        field = getattr(self._kind, name)
        return self._bits >> field.lo & ((1 << field.hi - field.lo + 1) - 1)

    def has(self, name):
        return hasattr(self._kind, name)

    def get(self, name):
        return getattr(self, name) if self.has(name) else 0


def refuse(name, what):
    """Raise NotImplementedError: what would be computed wrong."""
    raise NotImplementedError(f"{name}: {what}")


def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value
