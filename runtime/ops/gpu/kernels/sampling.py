"""The largest logits of a row, so that a sampler on the host needs no more of it."""

import triton
import triton.language as tl

# A token after all others: its key is the lowest of those with a logit of -inf.
NO_TOKEN: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit
def ordered_keys(values, tokens):
    """int64 in the order of float32 values, of equal ones the lower token first; NaN is largest.

    An IEEE number's bits, all but the sign turned over where it is negative, order as integers.
    """
    bits = tl.where(values == 0, 0.0, values).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ordered = tl.where(values != values, 0x7FFFFFFF, ordered)
    return (ordered.to(tl.int64) << 32) | (tokens ^ NO_TOKEN).to(tl.int64)


@triton.jit
def candidates(
    best_values, best_tokens, values, tokens, entries, has_tokens,
    BLOCK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """The COUNT largest of each BLOCK of entries, largest first, and their tokens.

    Program (r, b): block b of row r; best_values float32 and best_tokens int32 [R, blocks, COUNT].
    Without `tokens` int32 [R, entries] an entry is its own token. Where a block has fewer, -inf and
    NO_TOKEN fill it up. What is found in blocks is searched again until there is one block.
    """
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    at = block * BLOCK + tl.arange(0, BLOCK)
    mask = at < entries
    found = tl.load(values + row * entries + at, mask=mask, other=float("-inf"))
    token = tl.where(mask, at, NO_TOKEN)
    if has_tokens != 0:
        token = tl.load(tokens + row * entries + at, mask=mask, other=NO_TOKEN)
    best = tl.topk(ordered_keys(found, token), COUNT)
    place = (row * tl.num_programs(1) + block) * COUNT + tl.arange(0, COUNT)
    ordered = (best >> 32).to(tl.int32)
    bits = tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    tl.store(best_values + place, bits.to(tl.float32, bitcast=True))
    tl.store(best_tokens + place, (best & NO_TOKEN).to(tl.int32) ^ NO_TOKEN)
