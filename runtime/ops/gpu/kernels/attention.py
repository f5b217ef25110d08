"""Causal attention of a step's tokens to the pages of their rows.

A program takes ROWS query rows that read the same keys: the tokens of a block, each with the query
heads of one key-value head. Row m is head m % H' of token m // H', H' the heads of a key-value
head that the program takes. A row of the step with few new tokens is a decode row: its context is
cut into splits of a fixed length, so that a token's result does not depend on the others, and
`merge_attention` puts them together. The others are left to `prefill_attention`.

A head has up to BLOCK + REST columns, each a power of two or REST zero: `rest` are sums of the
latter. WHOLE is set if it has exactly that many. Queries are read PIECE columns at a time, or
whole where that is zero.
"""

import triton
import triton.language as tl

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
# Of logits: one that is not seen, and less than any that is; their distance has no weight.
UNSEEN: tl.constexpr = tl.constexpr(1.0e30)
LOWEST: tl.constexpr = tl.constexpr(-1.0e20)
# A window that holds every context.
EVERYTHING: tl.constexpr = tl.constexpr(0x40000000)


@triton.jit
def query_heads(group, heads, kv_heads, ROWS: tl.constexpr):
    """Key-value head, first query head and count of query heads of a program's group."""
    per_kv_head = heads // kv_heads
    chunks = (per_kv_head + ROWS - 1) // ROWS
    kv_head = group // chunks
    in_kv_head = group % chunks * ROWS
    return kv_head, kv_head * per_kv_head + in_kv_head, tl.minimum(per_kv_head - in_kv_head, ROWS)


@triton.jit
def tokens_of_block(heads, kv_heads, ROWS: tl.constexpr):
    """Return the number of a row's tokens that a program computes."""
    return tl.maximum(ROWS // (heads // kv_heads), 1)


@triton.jit
def attend(
    q, pool, page_table, q_offsets, last, from_position, to_position,
    kv_head, kv_heads, head_dim, page_size, window, scale, softcap,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr, WHOLE: tl.constexpr,
    PIECE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Weighted sums of the values at from_position .. to_position - 1, for ROWS query rows.

    last int32 [ROWS]: the position to which a row sees, `window` back. Gives sums float32
    [ROWS, BLOCK], rest [ROWS, REST], the largest logit (times log2 e) and the sum of weights
    [ROWS].
    """
    column = tl.arange(0, BLOCK)[None, :]
    q_rows = q + q_offsets[:, None]
    if PIECE == 0:
        queries = columns_of(q_rows, column, head_dim, WHOLE).to(tl.float16)
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    largest = tl.full([ROWS], LOWEST, tl.float32)
    weight = tl.zeros([ROWS], tl.float32)
    rest = weight
    if REST > 0:
        rest_column = BLOCK + tl.arange(0, REST)[None, :]
        rest = tl.zeros([ROWS, REST], tl.float32)
    plane = kv_heads.to(tl.int64) * page_size * head_dim
    for start in range(from_position // KEYS * KEYS, to_position, KEYS):
        position = start + tl.arange(0, KEYS)
        # Behind the last position the last is read again, and its weight is zero.
        stored = tl.minimum(position, to_position - 1)
        page = tl.load(page_table + stored // page_size).to(tl.int64)
        slot = (kv_head * page_size + stored % page_size).to(tl.int64)
        at = pool + (page * 2 * plane + slot * head_dim)[:, None]
        if PIECE == 0:
            logits = tl.dot(queries, columns_of(at, column, head_dim, WHOLE).T)
        else:
            # Where whole queries do not fit the registers, they are read again in pieces.
            logits = tl.zeros([ROWS, KEYS], tl.float32)
            for from_column in range(0, head_dim, PIECE):
                some = from_column + tl.arange(0, PIECE)[None, :]
                some_queries = columns_of(q_rows, some, head_dim, WHOLE).to(tl.float16)
                some_keys = columns_of(at, some, head_dim, WHOLE)
                logits = tl.dot(some_queries, some_keys.T, logits)
        logits = logits * scale
        if softcap > 0:
            logits = softcap * (1.0 - 2.0 / (tl.exp(2.0 * logits / softcap) + 1.0))
        # -1 where a position is not seen, without a mask: masks fill the scalar registers.
        distance = last[:, None] - position[None, :]
        distance = tl.minimum(distance, window - 1 - distance)
        logits = logits * LOG2_E + (distance >> 31).to(tl.float32) * UNSEEN
        highest = tl.maximum(largest, tl.max(logits, axis=1))
        weights = tl.exp2(logits - highest[:, None])
        kept = tl.exp2(largest - highest)
        weight = weight * kept + tl.sum(weights, axis=1)
        weights = weights.to(tl.float16)
        values = columns_of(at + plane, column, head_dim, WHOLE)
        sums = tl.dot(weights, values, sums * kept[:, None])
        if REST > 0:
            rest_values = columns_of(at + plane, rest_column, head_dim, WHOLE)
            rest = tl.dot(weights, rest_values, rest * kept[:, None])
        largest = highest
    return sums, rest, largest, weight


@triton.jit
def columns_of(at, column, head_dim, WHOLE: tl.constexpr):
    """Load the columns [1, C] of rows at pointers [R, 1]; zero from head_dim on."""
    if WHOLE:
        loaded = tl.load(at + column)
    else:
        inside = tl.broadcast_to(column < head_dim, [at.shape[0], column.shape[1]])
        loaded = tl.load(at + column, mask=inside, other=0.0)
    return loaded


@triton.jit
def share_of_sums(largest, weight, sinks, head, has_sinks):
    """Return the factor of sums [ROWS]: one over all weights, including a head's sink."""
    kept = weight * 0.0 + 1.0
    if has_sinks != 0:
        sink = tl.load(sinks + head) * LOG2_E
        highest = tl.maximum(largest, sink)
        kept = tl.exp2(largest - highest)
        weight = weight * kept + tl.exp2(sink - highest)
    return kept / tl.where(weight > 0, weight, 1.0)


@triton.jit
def of_rest(rest, factor, REST: tl.constexpr):
    """Multiply the sums of the columns after BLOCK, if any, with a factor [ROWS]."""
    if REST > 0:
        rest = rest * factor[:, None]
    return rest


@triton.jit
def store_columns(at, sums, rest, exists, head_dim, BLOCK: tl.constexpr, REST: tl.constexpr):
    """Writes the columns of a head to rows at pointers [ROWS], where they exist."""
    column = tl.arange(0, BLOCK)[None, :]
    tl.store(at[:, None] + column, sums, mask=exists[:, None] & (column < head_dim))
    if REST > 0:
        column = BLOCK + tl.arange(0, REST)[None, :]
        tl.store(at[:, None] + column, rest, mask=exists[:, None] & (column < head_dim))


@triton.jit
def decode_attention(
    y, partial, stats, q, pool, positions, row_starts, page_table, sinks,
    heads, kv_heads, head_dim, page_columns, page_size, window, has_sinks, scale, softcap,
    row_states,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr, WHOLE: tl.constexpr,
    PIECE: tl.constexpr, KEYS: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Program (b, g, s): split s of the context of row b, for group g of its query heads.

    With one split the result goes to y. Else partial [B, groups, splits, row_states, D] gets the
    sums and stats [B, groups, splits, row_states, 2] the largest logit and the sum of weights:
    row_states is ROWS, or less where a row of the step has fewer query rows in a group.
    """
    head_dim = BLOCK + REST if WHOLE else head_dim
    row = tl.program_id(0)
    group = tl.program_id(1)
    split = tl.program_id(2)
    splits = tl.num_programs(2)
    kv_head, first_head, own_heads = query_heads(group, heads, kv_heads, ROWS)
    first_token = tl.load(row_starts + row)
    tokens = tl.load(row_starts + row + 1) - first_token
    m = tl.arange(0, ROWS)
    in_row = m // own_heads
    exists = in_row < tokens
    if tokens > tokens_of_block(heads, kv_heads, ROWS):
        exists = exists & False
    token = tl.where(exists, first_token + in_row, 0)
    head = first_head + m % own_heads
    last = tl.where(exists, tl.load(positions + token), -1)
    window = tl.where(window > 0, window, EVERYTHING)
    first = tl.maximum(last - window + 1, 0)
    offsets = (token.to(tl.int64) * heads + head) * head_dim
    begin = tl.maximum(split * SPLIT, tl.min(tl.where(exists, first, 0x7FFFFFFF), axis=0))
    end = tl.minimum((split + 1) * SPLIT, tl.max(last, axis=0) + 1)
    if begin < end:
        sums, rest, largest, weight = attend(
            q, pool, page_table + row.to(tl.int64) * page_columns, offsets, last,
            begin, end, kv_head, kv_heads, head_dim, page_size, window, scale, softcap,
            ROWS, BLOCK, REST, WHOLE, PIECE, KEYS,
        )  # fmt: skip
        if splits == 1:
            share = share_of_sums(largest, weight, sinks, head, has_sinks)
            sums, rest = sums * share[:, None], of_rest(rest, share, REST)
            store_columns(y + offsets, sums, rest, exists, head_dim, BLOCK, REST)
        else:
            place = (
                (row * tl.num_programs(1) + group).to(tl.int64) * splits + split
            ) * row_states + m
            to = partial + place * head_dim
            store_columns(to, sums, rest, exists, head_dim, BLOCK, REST)
            tl.store(stats + place * 2, largest, mask=exists)
            tl.store(stats + place * 2 + 1, weight, mask=exists)


@triton.jit
def merge_attention(
    y, partial, stats, positions, row_starts, sinks,
    heads, kv_heads, head_dim, splits, window, has_sinks, row_states,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr, WHOLE: tl.constexpr,
    SPLIT: tl.constexpr,
):  # fmt: skip
    """Program (b, g): puts the splits of decode_attention together, in their order."""
    head_dim = BLOCK + REST if WHOLE else head_dim
    row = tl.program_id(0)
    group = tl.program_id(1)
    _kv_head, first_head, own_heads = query_heads(group, heads, kv_heads, ROWS)
    first_token = tl.load(row_starts + row)
    tokens = tl.load(row_starts + row + 1) - first_token
    m = tl.arange(0, ROWS)
    in_row = m // own_heads
    exists = in_row < tokens
    if tokens > tokens_of_block(heads, kv_heads, ROWS):
        exists = exists & False
    token = tl.where(exists, first_token + in_row, 0)
    head = first_head + m % own_heads
    last = tl.where(exists, tl.load(positions + token), -1)
    window = tl.where(window > 0, window, EVERYTHING)
    first = tl.maximum(last - window + 1, 0)
    begin = tl.min(tl.where(exists, first, 0x7FFFFFFF), axis=0) // SPLIT
    end = (tl.max(last, axis=0) + SPLIT) // SPLIT
    column = tl.arange(0, BLOCK)[None, :]
    mask = exists[:, None] & (column < head_dim)
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    largest = tl.full([ROWS], LOWEST, tl.float32)
    weight = tl.zeros([ROWS], tl.float32)
    rest = weight
    if REST > 0:
        rest_column = BLOCK + tl.arange(0, REST)[None, :]
        rest_mask = exists[:, None] & (rest_column < head_dim)
        rest = tl.zeros([ROWS, REST], tl.float32)
    for split in range(begin, end):
        place = ((row * tl.num_programs(1) + group).to(tl.int64) * splits + split) * row_states + m
        its_largest = tl.load(stats + place * 2, mask=exists, other=LOWEST)
        highest = tl.maximum(largest, its_largest)
        kept = tl.exp2(largest - highest)
        added = tl.exp2(its_largest - highest)
        at = partial + place[:, None] * head_dim
        its_sums = tl.load(at + column, mask=mask, other=0.0)
        its_weight = tl.load(stats + place * 2 + 1, mask=exists, other=0.0)
        sums = sums * kept[:, None] + its_sums * added[:, None]
        if REST > 0:
            its_rest = tl.load(at + rest_column, mask=rest_mask, other=0.0)
            rest = rest * kept[:, None] + its_rest * added[:, None]
        weight = weight * kept + its_weight * added
        largest = highest
    share = share_of_sums(largest, weight, sinks, head, has_sinks)
    offsets = (token.to(tl.int64) * heads + head) * head_dim
    sums, rest = sums * share[:, None], of_rest(rest, share, REST)
    store_columns(y + offsets, sums, rest, exists, head_dim, BLOCK, REST)


@triton.jit
def prefill_attention(
    y, q, pool, positions, row_starts, page_table, sinks,
    rows, heads, kv_heads, head_dim, page_columns, page_size, window, has_sinks, scale, softcap,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr, WHOLE: tl.constexpr,
    PIECE: tl.constexpr, KEYS: tl.constexpr, DECODE_ROWS: tl.constexpr,
):  # fmt: skip
    """Program (i, g): block i of the tokens of all rows, for group g of the query heads.

    Row b's blocks begin at i = row_starts[b] // Q + b, Q tokens a block, so that T // Q + B
    programs hold them all.
    """
    head_dim = BLOCK + REST if WHOLE else head_dim
    block = tl.program_id(0)
    kv_head, first_head, own_heads = query_heads(tl.program_id(1), heads, kv_heads, ROWS)
    block_tokens = tokens_of_block(heads, kv_heads, ROWS)
    begun = 0
    for from_row in range(0, rows, 128):
        at = from_row + tl.arange(0, 128)
        starts = tl.load(row_starts + at, mask=at < rows, other=0)
        begun += tl.sum(((starts // block_tokens + at <= block) & (at < rows)).to(tl.int32), axis=0)
    row = begun - 1
    first_token = tl.load(row_starts + row)
    tokens = tl.load(row_starts + row + 1) - first_token
    m = tl.arange(0, ROWS)
    in_row = (block - first_token // block_tokens - row) * block_tokens + m // own_heads
    exists = (in_row < tokens) & (m // own_heads < block_tokens)
    if tokens <= tokens_of_block(heads, kv_heads, DECODE_ROWS):
        exists = exists & False
    token = tl.where(exists, first_token + in_row, 0)
    head = first_head + m % own_heads
    last = tl.where(exists, tl.load(positions + token), -1)
    window = tl.where(window > 0, window, EVERYTHING)
    first = tl.maximum(last - window + 1, 0)
    begin = tl.min(tl.where(exists, first, 0x7FFFFFFF), axis=0)
    end = tl.max(last, axis=0) + 1
    if begin < end:
        offsets = (token.to(tl.int64) * heads + head) * head_dim
        sums, rest, largest, weight = attend(
            q, pool, page_table + row.to(tl.int64) * page_columns, offsets, last,
            begin, end, kv_head, kv_heads, head_dim, page_size, window, scale, softcap,
            ROWS, BLOCK, REST, WHOLE, PIECE, KEYS,
        )  # fmt: skip
        share = share_of_sums(largest, weight, sinks, head, has_sinks)
        sums, rest = sums * share[:, None], of_rest(rest, share, REST)
        store_columns(y + offsets, sums, rest, exists, head_dim, BLOCK, REST)
