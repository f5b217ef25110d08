"""Products of activations with weights in planes, and the lookup of rows.

A product may be routed, as experts need it: a slot is then one answer of one expert to one token,
whose weights are rows expert * N .. of the matrix of all experts.
"""

import triton
import triton.language as tl

from runtime.ops.gpu.kernels.weights import part_scales, part_values, part_weights


@triton.jit
def row_lookup(
    y, ids, codes, high, subs, units, table_low, table_high, unit_factor, zero, rows, parts,
    LOW_BITS: tl.constexpr, HIGH_BITS: tl.constexpr,
    HAS_TABLE: tl.constexpr, IS_FLOAT4: tl.constexpr,
    SUB_SCALES: tl.constexpr, HAS_MINIMUM: tl.constexpr, BLOCK_PARTS: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """y[t] = weights of row ids[t]. Program (t, p): PARTS parts from p * PARTS on."""
    token = tl.program_id(0)
    part = tl.program_id(1) * PARTS + tl.arange(0, PARTS)
    row = tl.load(ids + token)
    row = tl.maximum(tl.minimum(row, rows - 1), 0).to(tl.int64)
    stored = tl.minimum(part, parts - 1)
    at = row * parts + stored
    block = row * (parts // BLOCK_PARTS) + stored // BLOCK_PARTS
    first, second = part_weights(
        codes, high, subs, units, at[None, :], block[None, :], table_low, table_high,
        unit_factor, zero, LOW_BITS, HIGH_BITS, HAS_TABLE, IS_FLOAT4, SUB_SCALES, HAS_MINIMUM,
    )  # fmt: skip
    column = part[None, :, None] * 32 + tl.arange(0, 16)[None, None, :]
    target = y + token.to(tl.int64) * parts * 32 + column
    tl.store(target, first, mask=(part < parts)[None, :, None])
    tl.store(target + 16, second, mask=(part < parts)[None, :, None])


@triton.jit
def one_row(
    y, x, bias, codes, high, subs, units, experts, table_low, table_high, unit_factor, zero,
    rows, parts, has_bias, routed, slots_per_row,
    LOW_BITS: tl.constexpr, HIGH_BITS: tl.constexpr,
    HAS_TABLE: tl.constexpr, IS_FLOAT4: tl.constexpr,
    SUB_SCALES: tl.constexpr, HAS_MINIMUM: tl.constexpr, BLOCK_PARTS: tl.constexpr,
    ROWS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Product of one row of x, in float32: the speed is that of reading the weights.

    Program (n, slot): ROWS outputs from n * ROWS on. Codes are multiplied as they are; a part's
    scale and minimum are applied to its sums.
    """
    slot = tl.program_id(1)
    expert = 0
    if routed != 0:
        expert = tl.load(experts + slot)
    output = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = (expert * rows + tl.minimum(output, rows - 1)).to(tl.int64)[:, None]
    values = x + (slot // slots_per_row).to(tl.int64) * parts * 32
    column = tl.arange(0, 16)[None, :]
    total = tl.zeros([ROWS, PARTS], tl.float32)
    for from_part in range(0, parts, PARTS):
        part = from_part + tl.arange(0, PARTS)
        inside = (part < parts)[:, None]
        x_first = tl.load(values + part[:, None] * 32 + column, mask=inside, other=0.0)
        x_second = tl.load(values + part[:, None] * 32 + 16 + column, mask=inside, other=0.0)
        stored = tl.minimum(part, parts - 1)[None, :]
        at = row * parts + stored
        first, second = part_values(
            codes, high, at, table_low, table_high, LOW_BITS, HIGH_BITS, HAS_TABLE, IS_FLOAT4
        )
        of_first = tl.sum(first * x_first[None, :, :], axis=2)
        of_second = tl.sum(second * x_second[None, :, :], axis=2)
        if LOW_BITS == 0:
            total += of_first + of_second
        else:
            block = row * (parts // BLOCK_PARTS) + stored // BLOCK_PARTS
            scale, second_scale, minimum, second_minimum = part_scales(
                subs, units, at, block, unit_factor, SUB_SCALES, HAS_MINIMUM
            )
            sum_first = tl.sum(x_first, axis=1)[None, :]
            sum_second = tl.sum(x_second, axis=1)[None, :]
            total += scale * (of_first - zero * sum_first)
            total += second_scale * (of_second - zero * sum_second)
            if HAS_MINIMUM:
                total += minimum * sum_first + second_minimum * sum_second
    result = tl.sum(total, axis=1)
    exists = output < rows
    if has_bias != 0:
        result += tl.load(bias + expert * rows + output, mask=exists, other=0.0)
    tl.store(y + slot.to(tl.int64) * rows + output, result, mask=exists)


@triton.jit
def round_activations(rounded, x, elements, BLOCK: tl.constexpr):
    """float32 values as products of many rows take them: float16, cut off at its largest."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + at, mask=at < elements)
    values = tl.maximum(tl.minimum(values, 65504.0), -65504.0)
    tl.store(rounded + at, values.to(tl.float16), mask=at < elements)


@triton.jit
def sum_splits(y, partial, entries, splits, BLOCK: tl.constexpr):
    """The sum y of `splits` results one behind the other in `partial`, in their order."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < entries
    total = tl.load(partial + at, mask=mask)
    for _split in range(1, splits):
        partial += entries
        total += tl.load(partial + at, mask=mask)
    tl.store(y + at, total, mask=mask)


@triton.jit
def many_rows(
    y, x, bias, codes, high, subs, units, slots, block_experts,
    table_low, table_high, unit_factor, zero,
    rows, parts, count, has_bias, routed, slots_per_row,
    LOW_BITS: tl.constexpr, HIGH_BITS: tl.constexpr,
    HAS_TABLE: tl.constexpr, IS_FLOAT4: tl.constexpr,
    SUB_SCALES: tl.constexpr, HAS_MINIMUM: tl.constexpr, BLOCK_PARTS: tl.constexpr,
    EXACT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Product of many rows of x: weights and activations in float16, sums in float32.

    Program (n, m, s): ROWS rows (slots) by COLUMNS outputs, summed over split s of the columns.
    Every split has a y [count, rows] of its own, one behind the other. EXACT: x is float32 and is
    multiplied so throughout.
    """
    block_row = tl.program_id(1)
    split = tl.program_id(2)
    slot = block_row * ROWS + tl.arange(0, ROWS)
    expert = 0
    if routed != 0:
        # A block that is not used has no expert, and its slots are not set.
        expert = tl.load(block_experts + block_row)
        slot = tl.load(slots + slot, mask=(slot >= 0) & (expert >= 0), other=-1)
    exists = (slot >= 0) & (slot < count)
    output = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = (tl.maximum(expert, 0) * rows + tl.minimum(output, rows - 1)).to(tl.int64)[:, None]
    x_row = (tl.maximum(slot, 0) // slots_per_row).to(tl.int64)[:, None] * parts * 32
    step = tl.arange(0, PARTS * 16)
    column = (step // 16 * 32 + step % 16)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    split_parts = (parts + tl.num_programs(2) * PARTS - 1) // (tl.num_programs(2) * PARTS) * PARTS
    begin = split * split_parts
    # A block without slots has no parts to go through.
    end = tl.where(expert >= 0, tl.minimum(begin + split_parts, parts), 0)
    for from_part in range(begin, end, PARTS):
        mask = exists[:, None] & (from_part + step // 16 < parts)[None, :]
        x_first = tl.load(x + (x_row + from_part * 32 + column), mask=mask, other=0.0)
        x_second = tl.load(x + (x_row + from_part * 32 + 16 + column), mask=mask, other=0.0)
        stored = tl.minimum(from_part + tl.arange(0, PARTS), parts - 1)[None, :]
        first, second = part_weights(
            codes, high, subs, units, row * parts + stored,
            row * (parts // BLOCK_PARTS) + stored // BLOCK_PARTS,
            table_low, table_high, unit_factor, zero,
            LOW_BITS, HIGH_BITS, HAS_TABLE, IS_FLOAT4, SUB_SCALES, HAS_MINIMUM,
        )  # fmt: skip
        first = tl.reshape(first.to(x_first.dtype), [COLUMNS, PARTS * 16])
        second = tl.reshape(second.to(x_first.dtype), [COLUMNS, PARTS * 16])
        if EXACT:
            total = tl.dot(x_first, first.T, total, input_precision="ieee")
            total = tl.dot(x_second, second.T, total, input_precision="ieee")
        else:
            total = tl.dot(x_first, first.T, total)
            total = tl.dot(x_second, second.T, total)
    if has_bias != 0:
        biases = bias + tl.maximum(expert, 0) * rows + output
        total += tl.load(biases, mask=(output < rows) & (split == 0), other=0.0)[None, :]
    target = (
        y + (split * count + tl.maximum(slot, 0)).to(tl.int64)[:, None] * rows + output[None, :]
    )
    tl.store(target, total, mask=exists[:, None] & (output < rows)[None, :])
