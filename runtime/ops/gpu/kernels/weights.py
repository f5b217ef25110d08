"""Reading planes of weights: codes and scales of parts of 32 columns."""

import triton
import triton.language as tl


@triton.jit
def table_values(code, table_low, table_high):
    """int32 codes of 4 bits -> float32: bytes of two int64."""
    word = tl.where(code < 8, table_low, table_high)
    return (word >> ((code & 7) * 8).to(tl.int64)).to(tl.int8).to(tl.float32)


@triton.jit
def float16_of(bits):
    """The float16 whose bits are the low half of an int32, as float32."""
    return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def float4_values(packed):
    """Bytes of two E2M1 numbers each -> float32, twice the values of the low and the high halves.

    Exponent and mantissa become the lowest exponents of a float16 and its first mantissa bit.
    """
    byte = packed.to(tl.int32)
    low = ((byte & 0x07) << 9) | ((byte & 0x08) << 12)
    high = ((byte & 0x70) << 5) | ((byte & 0x80) << 8)
    return float16_of(low) * 32768.0, float16_of(high) * 32768.0


@triton.jit
def two_bits(plane, at, column):
    """Codes of 2 bits of the parts `at` [R, P]: int32 [R, P, 16] of both halves."""
    word = tl.load(plane + at)
    low = (word.to(tl.int32)[:, :, None] >> (2 * column)) & 3
    high = ((word >> 32).to(tl.int32)[:, :, None] >> (2 * column)) & 3
    return low, high


@triton.jit
def part_values(
    codes, high, at, table_low, table_high,
    LOW_BITS: tl.constexpr, HIGH_BITS: tl.constexpr, HAS_TABLE: tl.constexpr,
    IS_FLOAT4: tl.constexpr,
):  # fmt: skip
    """Values of the parts `at` int64 [R, P]: float32 [R, P, 16] of columns 0..15 and 16..31."""
    column = tl.arange(0, 16)[None, None, :]
    if LOW_BITS == 0 or LOW_BITS == 8:
        numbers = codes + at[:, :, None] * 32 + column
        first = tl.load(numbers)
        second = tl.load(numbers + 16)
    elif LOW_BITS == 4:
        packed = tl.load(codes + at[:, :, None] * 16 + column)
        first = (packed & 15).to(tl.int32)
        second = (packed >> 4).to(tl.int32)
    else:
        first, second = two_bits(codes, at, column)
    if HIGH_BITS == 1:
        word = tl.load(high + at)[:, :, None]
        first = first | (((word >> column) & 1) << LOW_BITS)
        second = second | (((word >> (column + 16)) & 1) << LOW_BITS)
    elif HIGH_BITS == 2:
        first_bits, second_bits = two_bits(high, at, column)
        first = first | (first_bits << LOW_BITS)
        second = second | (second_bits << LOW_BITS)
    if IS_FLOAT4:
        first, second = float4_values(packed)
    elif HAS_TABLE:
        first = table_values(first, table_low, table_high)
        second = table_values(second, table_low, table_high)
    return first.to(tl.float32), second.to(tl.float32)


@triton.jit
def signed_byte(word, index: tl.constexpr):
    """Byte `index` of an integer as float32."""
    return (word >> (8 * index)).to(tl.int8).to(tl.float32)


@triton.jit
def part_scales(
    subs, units, at, block, unit_factor,
    SUB_SCALES: tl.constexpr, HAS_MINIMUM: tl.constexpr,
):  # fmt: skip
    """Scales and minimums of both halves of the parts `at` [R, P] in the blocks `block` [R, P].

    Four float32 [R, P]: scale of the first half, of the second, minimum of the first, second.
    """
    stored = tl.load(units + block)
    if HAS_MINIMUM:
        unit = (stored & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        minimum_unit = (stored >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        unit = stored.to(tl.float32) * unit_factor
        minimum_unit = unit * 0.0
    if SUB_SCALES == 0:
        first, second = unit, unit
        first_minimum, second_minimum = minimum_unit, minimum_unit
    else:
        word = tl.load(subs + at)
        # Bytes of a part: scale (, minimum) of its first half or of all, then of its second half.
        first = unit * signed_byte(word, 0)
        second, first_minimum, second_minimum = first, minimum_unit, minimum_unit
        if HAS_MINIMUM:
            first_minimum = minimum_unit * signed_byte(word, 1)
            second_minimum = first_minimum
        if SUB_SCALES == 2:
            second = unit * signed_byte(word, 2 if HAS_MINIMUM else 1)
            if HAS_MINIMUM:
                second_minimum = minimum_unit * signed_byte(word, 3)
    return first, second, first_minimum, second_minimum


@triton.jit
def part_weights(
    codes, high, subs, units, at, block, table_low, table_high, unit_factor, zero,
    LOW_BITS: tl.constexpr, HIGH_BITS: tl.constexpr, HAS_TABLE: tl.constexpr,
    IS_FLOAT4: tl.constexpr, SUB_SCALES: tl.constexpr, HAS_MINIMUM: tl.constexpr,
):  # fmt: skip
    """Weights of the parts `at` [R, P]: float32 [R, P, 16] of columns 0..15 and 16..31."""
    first, second = part_values(
        codes, high, at, table_low, table_high, LOW_BITS, HIGH_BITS, HAS_TABLE, IS_FLOAT4
    )
    if LOW_BITS != 0:
        scale, second_scale, minimum, second_minimum = part_scales(
            subs, units, at, block, unit_factor, SUB_SCALES, HAS_MINIMUM
        )
        # Exact: a format has a zero or minimums (or such of 0), and a scale at most 19 bits.
        shift, second_shift = -zero * scale, -zero * second_scale
        if HAS_MINIMUM:
            shift, second_shift = minimum + shift, second_minimum + second_shift
        first = first * scale[:, :, None] + shift[:, :, None]
        second = second * second_scale[:, :, None] + second_shift[:, :, None]
    return first, second
