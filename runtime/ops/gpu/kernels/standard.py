"""ONNX's own operators that the graphs have, for the execution provider that has no others."""

import triton
import triton.language as tl

from runtime.ops.gpu.kernels.elementwise import tanh


@triton.jit
def gather_rows(y, x, indices, rows, row_size, BLOCK: tl.constexpr):
    """Y [R, row_size] = x [rows, row_size] at indices [R]. Program (r, b): block b of row r."""
    row = tl.program_id(0).to(tl.int64)
    index = tl.load(indices + row)
    index += tl.where(index < 0, rows, 0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + index.to(tl.int64) * row_size + at, mask=at < row_size)
    tl.store(y + row * row_size + at, value, mask=at < row_size)


@triton.jit
def row_maximum(y, x, row_size, BLOCK: tl.constexpr):
    """Y [R] = the largest of each row of x [R, row_size]. Program r: row r."""
    row = tl.program_id(0).to(tl.int64)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)
    for first in range(0, row_size, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = tl.load(x + row * row_size + at, mask=at < row_size, other=float("-inf"))
        largest = tl.maximum(largest, value)
    tl.store(y + row, tl.max(largest, axis=0))


@triton.jit
def map_values(y, x, size, kind, low, high, BLOCK: tl.constexpr):
    """Y = f(x) with f by `kind`, as value_operators.h numbers them; clip from low to high."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    if kind == 1:
        value = 1.0 / (1.0 + tl.exp(-value))
    elif kind == 2:
        value = tl.maximum(value, 0.0)
    elif kind == 3:
        value = tanh(value)
    elif kind == 4:
        value = tl.floor(value)
    elif kind == 5:
        value = tl.log(value)
    elif kind == 6:
        value = tl.exp(value)
    elif kind == 7:
        value = tl.abs(value)
    elif kind == 8:
        value = -value
    elif kind == 9:
        value = tl.minimum(tl.maximum(value, low), high)
    tl.store(y + at, value, mask=mask)


@triton.jit
def map_pairs(
    y,
    a,
    b,
    size,
    kind,
    a_inner,
    a_repeat,
    a_outer,
    b_inner,
    b_repeat,
    b_outer,
    BLOCK: tl.constexpr,
):
    """Y = f(a, b) with f by `kind`, as value_operators.h numbers them.

    An operand is [outer, inner], each row of it `repeat` times, and all of it as often as fits.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    left = tl.load(a + place(at, a_inner, a_repeat, a_outer), mask=mask, other=0.0)
    right = tl.load(b + place(at, b_inner, b_repeat, b_outer), mask=mask, other=1.0)
    if kind == 0:
        left += right
    elif kind == 1:
        left -= right
    elif kind == 2:
        left *= right
    elif kind == 3:
        left /= right
    else:
        left = tl.minimum(left, right)
    tl.store(y + at, left, mask=mask)


@triton.jit
def place(at, inner, repeat, outer):
    """Where value `at` of a result finds its operand."""
    return at // (inner * repeat) % outer * inner + at % inner
