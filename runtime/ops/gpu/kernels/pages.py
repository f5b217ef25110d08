"""Rotation of queries and keys, and the write of keys and values to their pages."""

import triton
import triton.language as tl


@triton.jit
def row_of_token(row_starts, token, rows):
    """The row whose tokens hold `token`: how many rows end at or before it."""
    row = 0
    for first in range(0, rows, 128):
        at = first + tl.arange(0, 128)
        ends = tl.load(row_starts + 1 + at, mask=at < rows, other=0x7FFFFFFF)
        row += tl.sum((ends <= token).to(tl.int32), axis=0)
    return row


@triton.jit
def rotary_page_write(
    q_rotated, pool, q, k, v, angles, positions, row_starts, page_table,
    heads, kv_heads, head_dim, rotary_dim, rows, page_columns, page_size, adjacent,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Rotates queries; rotates keys and writes them, and values, to the layer's pages.

    Program (t, h, c): BLOCK columns of head h of token t, where the H query heads come first, then
    the G key heads, then the G value heads. `pool` is float16 [pages, 2, G, page_size, D]: one
    layer of it.
    """
    token = tl.program_id(0)
    head = tl.program_id(1)
    column = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = column < head_dim
    is_query = head < heads
    is_value = head >= heads + kv_heads
    kv_head = (head - heads) % kv_heads
    if is_query:
        source = q + (token.to(tl.int64) * heads + head) * head_dim
    else:
        source = k + (token.to(tl.int64) * kv_heads + kv_head) * head_dim
        if is_value:
            source = v + (token.to(tl.int64) * kv_heads + kv_head) * head_dim
    value = tl.load(source + column, mask=inside, other=0.0)

    half = rotary_dim // 2
    rotates = (column < rotary_dim) & (is_value == 0)
    if adjacent != 0:
        angle = column // 2
        is_second = column % 2 == 1
        partner = column + 1 - 2 * (column % 2)
    else:
        is_second = column >= half
        angle = tl.where(is_second, column - half, column)
        partner = tl.where(is_second, column - half, column + half)
    of_token = angles + token.to(tl.int64) * rotary_dim
    cosine = tl.load(of_token + angle, mask=rotates, other=1.0)
    sine = tl.load(of_token + half + angle, mask=rotates, other=0.0)
    other = tl.load(source + partner, mask=rotates, other=0.0)
    value = value * cosine + tl.where(is_second, other * sine, -other * sine)

    if is_query:
        rotated = q_rotated + (token.to(tl.int64) * heads + head) * head_dim
        tl.store(rotated + column, value, mask=inside)
    else:
        row = row_of_token(row_starts, token, rows)
        position = tl.load(positions + token)
        page = tl.load(page_table + row.to(tl.int64) * page_columns + position // page_size)
        plane = (page.to(tl.int64) * 2 + is_value.to(tl.int64)) * kv_heads + kv_head
        written = pool + (plane * page_size + position % page_size) * head_dim
        tl.store(written + column, value.to(tl.float16), mask=inside)
