"""Layouts of weights in GPU memory: a few kinds of planes, into which all formats are repacked.

A GGUF's blocks of 18, 34 or 210 bytes are too odd for wide loads. So a matrix [rows, columns] is
cut into parts of 32 columns and stored in four planes, one after the other in one buffer: codes,
high bits of codes, sub-scales and units. The parts of a plane are stored row by row, so that
adjacent threads read adjacent bytes.

    weight = unit * unit_factor * sub_scale * (value - zero) + minimum_unit * sub_minimum

with value = code, or table[code]; everything but the sum is exact in float32. Planes:

- codes: 4 bits: 16 bytes a part, column j in the low half of byte j, column 16 + j in the high one;
  2 bits: 64 bits a part, column c from bit 2c on; 8 bits: 32 int8. A plain format: the row itself.
- high: one more bit: 32 bits a part, column c at bit c; two more bits: as codes of 2 bits.
- subs: int8 for a part or for each half of it; with minimums [scale, minimum] for each.
- units: float16 (MXFP4: bfloat16) per block; with minimums [unit, minimum's unit].
"""

from dataclasses import dataclass
from functools import cached_property

PART_COLUMNS = 32
PLANE_ALIGNMENT = 256
"""Planes begin at multiples of this number of bytes."""


@dataclass(frozen=True)
class Layout:
    """One arrangement of planes. Immutable.

    low_bits: of the codes plane, 0 for a plain format of `unit` numbers; high_bits: more;
    has_table: codes are indices into a format's table; is_float4: of E2M1 numbers, doubled;
    sub_scales: per part, 0 if the unit is the scale; block_columns: columns of a unit.
    """

    name: str
    low_bits: int
    unit: str = "fp16"
    high_bits: int = 0
    has_table: bool = False
    is_float4: bool = False
    sub_scales: int = 0
    has_minimum: bool = False
    block_columns: int = PART_COLUMNS

    @property
    def is_plain(self) -> bool:
        """Whether weights are plain numbers, not codes."""
        return self.low_bits == 0

    @property
    def code_bytes(self) -> int:
        """Bytes of a part in the plane of codes."""
        plain = {"fp16": 64, "bf16": 64, "fp32": 128}
        return plain[self.unit] if self.is_plain else self.low_bits * PART_COLUMNS // 8

    @property
    def high_bytes(self) -> int:
        """Bytes of a part in the plane of high bits."""
        return self.high_bits * PART_COLUMNS // 8

    @property
    def sub_bytes(self) -> int:
        """Bytes of a part in the plane of sub-scales."""
        return self.sub_scales * (2 if self.has_minimum else 1)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a block in the plane of units."""
        return 0 if self.is_plain else 4 if self.has_minimum else 2

    def plane_bytes(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        """Return the bytes of codes, high, subs and units. Raises ValueError for odd columns."""
        if columns % max(PART_COLUMNS, self.block_columns):
            raise ValueError(f"{columns} columns are not whole blocks of the layout {self.name}")
        parts = rows * columns // PART_COLUMNS
        return (
            parts * self.code_bytes,
            parts * self.high_bytes,
            parts * self.sub_bytes,
            rows * (columns // self.block_columns) * self.unit_bytes,
        )

    def plane_offsets(self, rows: int, columns: int) -> tuple[int, int, int, int, int]:
        """Return the offsets of the four planes in their buffer, and its length."""
        offsets = [0]
        for size in self.plane_bytes(rows, columns):
            offsets.append(-(-(offsets[-1] + size) // PLANE_ALIGNMENT) * PLANE_ALIGNMENT)
        codes, high, subs, units, total = offsets
        return codes, high, subs, units, total

    @cached_property
    def pointer_types(self) -> tuple[str, str, str, str]:
        """Triton's types of the planes' pointers."""
        codes = {0: self.unit, 2: "i64", 4: "u8", 8: "i8"}[self.low_bits]
        high = {0: "u8", 1: "i32", 2: "i64"}[self.high_bits]
        subs = {0: "u8", 1: "i8", 2: "i16", 4: "i32"}[self.sub_bytes]
        units = "u8" if self.is_plain else "i32" if self.has_minimum else self.unit
        return f"*{codes}", f"*{high}", f"*{subs}", f"*{units}"


_LAYOUTS = (
    Layout("f32", 0, unit="fp32"),
    Layout("f16", 0),
    Layout("bf16", 0, unit="bf16"),
    Layout("q4_0", 4),
    Layout("q4_1", 4, has_minimum=True),
    Layout("q5_0", 4, high_bits=1),
    Layout("q5_1", 4, high_bits=1, has_minimum=True),
    Layout("q8_0", 8),
    Layout("q2_k", 2, sub_scales=2, has_minimum=True, block_columns=256),
    Layout("q3_k", 2, high_bits=1, sub_scales=2, block_columns=256),
    Layout("q4_k", 4, sub_scales=1, has_minimum=True, block_columns=256),
    Layout("q5_k", 4, high_bits=1, sub_scales=1, has_minimum=True, block_columns=256),
    Layout("q6_k", 4, high_bits=2, sub_scales=2, block_columns=256),
    Layout("iq4_nl", 4, has_table=True),
    Layout("mxfp4", 4, unit="bf16", has_table=True, is_float4=True),
    Layout("iq4_xs", 4, has_table=True, sub_scales=1, block_columns=256),
    Layout("iq2_s", 4, has_table=True, sub_scales=2, block_columns=256),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}
"""Every layout by name, which is that of a format that is stored unchanged."""


@dataclass(frozen=True)
class BlockFormat:
    """The use of a layout by a GGML format. Immutable.

    table: 16 int8 values of the codes if the layout has a table; such a format has no zero;
    is_decoded: its weights stand in the plane of a plain layout as the numbers they are.
    """

    layout: Layout
    zero: int = 0
    unit_factor: float = 1.0
    table: tuple[int, ...] = ()
    is_decoded: bool = False

    @property
    def table_words(self) -> tuple[int, int]:
        """The table as two int64 of eight bytes each, as the kernels take it."""
        stored = bytes(value & 255 for value in self.table) or bytes(16)
        low, high = (int.from_bytes(stored[at : at + 8], "little", signed=True) for at in (0, 8))
        return low, high


def _mirrored(magnitudes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values of codes whose highest bit is a sign."""
    return magnitudes + tuple(-each for each in magnitudes)


_NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_TWO_BITS = (8, 25, 43, 0, -8, -25, -43, 0) + (0,) * 8
_ONE_BIT = tuple(8 * (i // 2 - 1) + (1 if i % 2 == 0 else -1) for i in range(6)) + (0,) * 10

BLOCK_FORMATS = {
    "F32": BlockFormat(LAYOUTS["f32"]),
    "F16": BlockFormat(LAYOUTS["f16"]),
    "BF16": BlockFormat(LAYOUTS["bf16"]),
    "Q4_0": BlockFormat(LAYOUTS["q4_0"], zero=8),
    "Q4_1": BlockFormat(LAYOUTS["q4_1"]),
    "Q5_0": BlockFormat(LAYOUTS["q5_0"], zero=16),
    "Q5_1": BlockFormat(LAYOUTS["q5_1"]),
    "Q8_0": BlockFormat(LAYOUTS["q8_0"]),
    "Q2_K": BlockFormat(LAYOUTS["q2_k"]),
    "Q3_K": BlockFormat(LAYOUTS["q3_k"], zero=4),
    "Q4_K": BlockFormat(LAYOUTS["q4_k"]),
    "Q5_K": BlockFormat(LAYOUTS["q5_k"]),
    "Q6_K": BlockFormat(LAYOUTS["q6_k"], zero=32),
    # Three values, in the layout of Q2_K with sub-scales of 1 and no minimums.
    "TQ1_0": BlockFormat(LAYOUTS["q2_k"], zero=1),
    "TQ2_0": BlockFormat(LAYOUTS["q2_k"], zero=1),
    "IQ4_NL": BlockFormat(LAYOUTS["iq4_nl"], table=_NONLINEAR),
    "MXFP4": BlockFormat(LAYOUTS["mxfp4"], table=_mirrored((0, 1, 2, 3, 4, 6, 8, 12))),
    "IQ4_XS": BlockFormat(LAYOUTS["iq4_xs"], table=_NONLINEAR),
    "IQ2_XXS": BlockFormat(LAYOUTS["iq4_xs"], unit_factor=0.125, table=_TWO_BITS),
    "IQ2_XS": BlockFormat(LAYOUTS["iq2_s"], unit_factor=0.125, table=_TWO_BITS),
    "IQ2_S": BlockFormat(LAYOUTS["iq2_s"], unit_factor=0.125, table=_TWO_BITS),
    "IQ3_XXS": BlockFormat(
        LAYOUTS["iq4_xs"], unit_factor=0.25, table=_mirrored((4, 12, 20, 28, 36, 44, 52, 62))
    ),
    "IQ3_S": BlockFormat(LAYOUTS["iq4_xs"], table=_mirrored((1, 3, 5, 7, 9, 11, 13, 15))),
    "IQ1_S": BlockFormat(LAYOUTS["iq4_xs"], unit_factor=0.125, table=_ONE_BIT),
    "IQ1_M": BlockFormat(LAYOUTS["iq2_s"], unit_factor=0.125, table=_ONE_BIT),
    # Decoded: float16 has all values of these.
    "NVFP4": BlockFormat(LAYOUTS["f16"], is_decoded=True),
    "Q1_0": BlockFormat(LAYOUTS["f16"], is_decoded=True),
}
"""The GGML block formats that the kernels multiply."""
