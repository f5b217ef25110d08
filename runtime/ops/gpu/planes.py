"""Defines repacking in NumPy: a GGUF's blocks into planes, and planes into weights.

The native library repacks when it uploads weights; its tests and those of the kernels compare with
these functions. `layouts` defines the bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.gguf.block_formats import FORMAT_OF_NAME
from runtime.gguf.dequantize import dequantize
from runtime.ops.gpu.layouts import BLOCK_FORMATS, PART_COLUMNS

Bytes = NDArray[np.uint8]
Integers = NDArray[np.integer[Any]]
Float32 = NDArray[np.float32]

HALF = PART_COLUMNS // 2
ONE_AS_FLOAT16 = np.array([0x00, 0x3C], np.uint8)


@dataclass(frozen=True)
class Planes:
    """A matrix's four planes as bytes, [rows, ...] each. Immutable."""

    codes: Bytes
    high: Bytes
    subs: Bytes
    units: Bytes

    def buffer(self, format: str, columns: int) -> Bytes:
        """Return the planes, concatenated as in GPU memory."""
        offsets = BLOCK_FORMATS[format].layout.plane_offsets(len(self.codes), columns)
        buffer = np.zeros(offsets[-1], np.uint8)
        for plane, at in zip((self.codes, self.high, self.subs, self.units), offsets, strict=False):
            buffer[at : at + plane.size] = plane.reshape(-1)
        return buffer


@dataclass(frozen=True)
class _Codes:
    """In blocks: codes uint8 [B, block], subs int8 [B, parts, halves, 1 or 2] and units."""

    codes: Integers
    units: Bytes
    subs: Integers | None = None


def pack(format: str, blocks: Bytes) -> Planes:
    """Convert uint8 [rows, row_bytes] of a GGML format to planes."""
    layout, rows = BLOCK_FORMATS[format].layout, len(blocks)
    nothing = np.zeros((rows, 0), np.uint8)
    if BLOCK_FORMATS[format].is_decoded:
        values = np.asarray(dequantize(blocks, format), np.float16)
        return Planes(values.reshape(rows, -1).view(np.uint8), nothing, nothing, nothing)
    if layout.is_plain:
        return Planes(np.ascontiguousarray(blocks), nothing, nothing, nothing)
    block_bytes = FORMAT_OF_NAME[format].bytes
    read = _read(format, np.ascontiguousarray(blocks).reshape(-1, block_bytes))
    codes = read.codes.reshape(-1, PART_COLUMNS)
    low: Integers = codes & ((1 << layout.low_bits) - 1)
    if layout.low_bits == 4:
        low = low[:, :HALF] | low[:, HALF:] << 4
    elif layout.low_bits == 2:
        low = _bits(low, 2)
    high = _bits(codes >> layout.low_bits, layout.high_bits) if layout.high_bits else nothing
    subs = nothing if read.subs is None else read.subs.view(np.uint8)
    return Planes(
        low.astype(np.uint8).reshape(rows, -1),
        high.reshape(rows, -1),
        subs.reshape(rows, -1),
        read.units.reshape(rows, -1),
    )


def unpack(format: str, planes: Planes, columns: int) -> Float32:
    """Return the weights float32 [rows, columns] of planes, exactly as the format has them."""
    block_format = BLOCK_FORMATS[format]
    layout, rows = block_format.layout, len(planes.codes)
    if layout.is_plain:
        stored_as = "F16" if block_format.is_decoded else format
        if format == "F32":
            return planes.codes.view(np.float32)
        return np.asarray(dequantize(planes.codes, stored_as), np.float32).reshape(rows, columns)
    parts = columns // PART_COLUMNS
    codes: Integers
    if layout.low_bits == 8:
        codes = planes.codes.view(np.int8).astype(np.int32).reshape(rows, parts, PART_COLUMNS)
    elif layout.low_bits == 4:
        packed = planes.codes.reshape(rows, parts, HALF)
        codes = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.int32)
    else:
        codes = _unbits(planes.codes.reshape(rows, parts, 8), 2)
    if layout.high_bits:
        stored = planes.high.reshape(rows, parts, layout.high_bytes)
        codes = codes | _unbits(stored, layout.high_bits) << layout.low_bits
    if layout.has_table:
        codes = np.array(block_format.table, np.int32)[codes]
    values = (codes - block_format.zero).astype(np.float32).reshape(rows, parts, 2, HALF)
    pairs = 2 if layout.has_minimum else 1
    if layout.unit == "bf16":
        units = (planes.units.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        units = planes.units.view(np.float16).astype(np.float32)
    units = units.reshape(rows, -1, pairs)
    each = np.repeat(units, parts // units.shape[1], axis=1)[:, :, None, :]
    if layout.sub_scales:
        subs = planes.subs.view(np.int8).reshape(rows, parts, layout.sub_scales, pairs)
        each = each * subs.astype(np.float32)
    scales = each[..., :1] * np.float32(block_format.unit_factor)
    weights = scales * values
    if layout.has_minimum:
        weights = weights + each[..., 1:]
    return weights.astype(np.float32).reshape(rows, columns)


def _bits(codes: Integers, width: int) -> Bytes:
    """uint8 [parts, 32] of `width` bits -> [parts, 4 * width], column c from bit width * c on."""
    single = codes[:, :, None] >> np.arange(width, dtype=np.uint8) & 1
    return np.packbits(single.reshape(len(codes), -1), axis=-1, bitorder="little")


def _unbits(stored: Bytes, width: int) -> Integers:
    """Compute the inverse of `_bits`, over the last axis."""
    single = np.unpackbits(stored, axis=-1, bitorder="little")
    single = single.reshape(*stored.shape[:-1], PART_COLUMNS, width).astype(np.int32)
    codes: Integers = (single << np.arange(width)).sum(axis=-1)
    return codes


def _halves(packed: Bytes) -> Integers:
    """[B, n] bytes -> [B, 2 n] codes: the low halves, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fields(packed: Bytes, width: int) -> Integers:
    """[B, n, 32] bytes -> [B, n * 8 / width * 32]: the lowest `width` bits of each 32 first."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    fields = packed[:, :, None, :] >> shifts & ((1 << width) - 1)
    return fields.reshape(len(packed), -1)


def _read(format: str, blocks: Bytes) -> _Codes:
    """Return the codes, sub-scales and units of blocks uint8 [B, block_bytes]."""
    if format in ("Q4_0", "IQ4_NL"):
        return _Codes(_halves(blocks[:, 2:]), blocks[:, :2])
    if format == "Q4_1":
        return _Codes(_halves(blocks[:, 4:]), blocks[:, :4])
    if format in ("Q5_0", "Q5_1"):
        at = 2 if format == "Q5_0" else 4
        fifth = np.unpackbits(blocks[:, at : at + 4], axis=-1, bitorder="little")
        return _Codes(_halves(blocks[:, at + 4 :]) | fifth << 4, blocks[:, :at])
    if format == "Q8_0":
        return _Codes(blocks[:, 2:], blocks[:, :2])
    if format == "MXFP4":
        exponents = blocks[:, :1].astype(np.int32)
        # 2^(exponent - 128) as bfloat16, down to its subnormals.
        units = np.where(exponents < 2, 0x20 << np.minimum(exponents, 1), (exponents - 1) << 7)
        return _Codes(_halves(blocks[:, 1:]), units.astype(np.uint16).view(np.uint8))
    if format in _SUPER_BLOCKS:
        return _SUPER_BLOCKS[format](blocks)
    if format in ("TQ1_0", "TQ2_0"):
        return _read_ternary(format, blocks)
    return _read_codebook(format, blocks)


def _pairs_of_subs(scales: Integers, minimums: Integers, parts: int) -> Integers:
    both = np.stack([scales, -minimums], axis=-1).astype(np.int8)
    return np.ascontiguousarray(both.reshape(len(both), parts, -1, 2))


def _read_q2_k(blocks: Bytes) -> _Codes:
    subs = blocks[:, :16].astype(np.int32)
    codes = _fields(blocks[:, 16:80].reshape(-1, 2, 32), 2)
    return _Codes(codes, blocks[:, 80:84], _pairs_of_subs(subs & 15, subs >> 4, 8))


def _read_q3_k(blocks: Bytes) -> _Codes:
    third = _fields(blocks[:, :32].reshape(-1, 1, 32), 1)
    codes = _fields(blocks[:, 32:96].reshape(-1, 2, 32), 2) | third << 2
    packed = blocks[:, 96:108].astype(np.int32)
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=-1)
    high = np.concatenate([packed[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
    subs = (low | high << 4) - 32
    return _Codes(codes, blocks[:, 108:110], subs.astype(np.int8).reshape(-1, 8, 2, 1))


def _six_bit_subs(packed: Bytes) -> Integers:
    """Return 8 sub-scales and minimums of 6 bits each from 12 bytes."""
    p = packed.astype(np.int32)
    scales = np.concatenate([p[:, :4] & 63, p[:, 8:] & 15 | p[:, :4] >> 6 << 4], axis=-1)
    minimums = np.concatenate([p[:, 4:8] & 63, p[:, 8:] >> 4 | p[:, 4:8] >> 6 << 4], axis=-1)
    return _pairs_of_subs(scales, minimums, 8)


def _read_q4_k(blocks: Bytes) -> _Codes:
    codes = _fields(blocks[:, 16:].reshape(-1, 4, 32), 4)
    return _Codes(codes, blocks[:, :4], _six_bit_subs(blocks[:, 4:16]))


def _read_q5_k(blocks: Bytes) -> _Codes:
    fifth = _fields(blocks[:, 16:48].reshape(-1, 1, 32), 1)
    codes = _fields(blocks[:, 48:].reshape(-1, 4, 32), 4) | fifth << 4
    return _Codes(codes, blocks[:, :4], _six_bit_subs(blocks[:, 4:16]))


def _read_q6_k(blocks: Bytes) -> _Codes:
    low = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([[0], [4]], np.uint8) & 15
    high = _fields(blocks[:, 128:192].reshape(-1, 2, 32), 2)
    subs = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).reshape(-1, 8, 2, 1)
    return _Codes(low.reshape(-1, 256) | high << 4, blocks[:, 208:210], subs)


def _read_iq4_xs(blocks: Bytes) -> _Codes:
    low = (blocks[:, 4:8, None] >> np.array([0, 4], np.uint8) & 15).reshape(-1, 8).astype(np.int32)
    upper = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16).astype(np.int32)
    subs = (low | (upper >> 2 * np.arange(8) & 3) << 4) - 32
    codes = _halves(blocks[:, 8:].reshape(-1, 16)).reshape(-1, 256)
    return _Codes(codes, blocks[:, :2], subs.astype(np.int8).reshape(-1, 8, 1, 1))


_SUPER_BLOCKS = {
    "Q2_K": _read_q2_k,
    "Q3_K": _read_q3_k,
    "Q4_K": _read_q4_k,
    "Q5_K": _read_q5_k,
    "Q6_K": _read_q6_k,
    "IQ4_XS": _read_iq4_xs,
}


def _with_unit_of_one(format: str, blocks: Bytes) -> Bytes:
    """Return the blocks with a float16 unit of 1."""
    one = blocks.copy()
    if format == "IQ1_M":
        one[:, 49:56:2] = blocks[:, 49:56:2] & 15 | np.array([0x00, 0x00, 0xC0, 0x30], np.uint8)
    else:
        at = {"TQ1_0": 52, "TQ2_0": 64}.get(format, 0)
        one[:, at : at + 2] = ONE_AS_FLOAT16
    return one


def _read_ternary(format: str, blocks: Bytes) -> _Codes:
    """Return the values -1, 0 and 1, which the gguf package gives for a unit of 1."""
    values = dequantize(_with_unit_of_one(format, blocks), format)
    units = np.zeros((len(blocks), 4), np.uint8)
    units[:, :2] = blocks[:, -2:]
    subs = np.tile(np.array([1, 0], np.int8), (len(blocks), 8, 2, 1))
    return _Codes((values + 1).astype(np.uint8), units, subs)


def _read_codebook(format: str, blocks: Bytes) -> _Codes:
    """Return codes as indices into the table of the values the gguf package gives for unit 1."""
    block_format = BLOCK_FORMATS[format]
    halves = block_format.layout.sub_scales
    subs = 2 * _sub_scale_bits(format, blocks) + 1
    values = dequantize(_with_unit_of_one(format, blocks), format)
    steps = np.repeat(subs * np.float32(block_format.unit_factor), PART_COLUMNS // halves, axis=1)
    wanted = np.rint(np.asarray(values).reshape(len(blocks), -1) / steps).astype(np.int32)
    places = {value: place for place, value in reversed(list(enumerate(block_format.table)))}
    lookup = np.zeros(256, np.uint8)
    for value, place in places.items():
        lookup[value + 128] = place
    units = blocks[:, :2]
    if format == "IQ1_M":
        words = np.ascontiguousarray(blocks[:, 48:56]).view(np.uint16).astype(np.uint32) >> 12
        unit = (words << np.array([0, 4, 8, 12], np.uint32)).sum(axis=1).astype(np.uint16)
        units = unit.view(np.uint8).reshape(-1, 2)
    stored = subs.astype(np.int8).reshape(len(blocks), 8, halves, 1)
    return _Codes(lookup[wanted + 128], units, stored)


def _sub_scale_bits(format: str, blocks: Bytes) -> Integers:
    """int32 [B, 8 or 16]: the stored sub-scales s, which mean 2 s + 1."""
    if format in ("IQ2_XXS", "IQ3_XXS"):
        of_part = (
            blocks[:, 2:].reshape(-1, 8, 8)[:, :, 4:] if format == "IQ2_XXS" else blocks[:, 66:]
        )
        words = np.ascontiguousarray(of_part).view(np.uint32).reshape(-1, 8)
        return (words >> 28).astype(np.int32)
    if format == "IQ1_S":
        upper = np.ascontiguousarray(blocks[:, 34:50]).view(np.uint16)
        return (upper >> 12 & 7).astype(np.int32)
    if format == "IQ1_M":
        upper = np.ascontiguousarray(blocks[:, 48:56]).view(np.uint16).astype(np.int32)
        fields: Integers = upper[:, :, None] >> np.array([0, 3, 6, 9]) & 7
        return fields.reshape(-1, 16)
    packed = blocks[:, {"IQ2_XS": 66, "IQ2_S": 74, "IQ3_S": 106}[format] :]
    return (
        (packed[:, :, None] >> np.array([0, 4], np.uint8) & 15)
        .reshape(len(blocks), -1)
        .astype(np.int32)
    )
