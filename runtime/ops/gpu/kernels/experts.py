"""Mixture of experts: choose experts for a token, sort by expert, and sum their outputs.

A slot is one expert's output for one token: slot t * used + i is the i-th best expert's for t.
"""

import triton
import triton.language as tl


@triton.jit
def in_best_groups(scores, expert, expert_count, groups, used, EXPERTS: tl.constexpr):
    """Return which experts are in the `used` groups whose best two scores have the largest sum."""
    each = expert_count // groups
    group = expert // each
    exists = expert < expert_count
    of_group = tl.full([EXPERTS], float("-inf"), tl.float32)
    for own in range(0, groups):
        is_own = (group == own) & exists
        its_scores = tl.where(is_own, scores, float("-inf"))
        total = tl.max(its_scores, axis=0)
        if each > 1:
            first = tl.min(tl.where(is_own & (its_scores == total), expert, EXPERTS), axis=0)
            total += tl.max(tl.where(expert == first, float("-inf"), its_scores), axis=0)
        of_group = tl.where(is_own, total, of_group)
    left = exists
    for _choice in range(0, used):
        best = tl.max(tl.where(left, of_group, float("-inf")), axis=0)
        chosen = tl.min(tl.where(left & (of_group == best), group, EXPERTS), axis=0)
        left = left & (group != chosen)
    return exists & (left == 0)


@triton.jit
def route_tokens(
    experts, shares, logits, bias, expert_count, used, has_bias, is_sigmoid, groups, groups_used,
    renormalize, scale,
    EXPERTS: tl.constexpr,
):  # fmt: skip
    """Choose the `used` experts with the best scores, the first of equal ones, and their shares.

    Program t: token t. Defined by runtime.ops.reference.choose; shares are times `scale`.
    """
    token = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, EXPERTS)
    exists = expert < expert_count
    mine = tl.load(logits + token * expert_count + expert, mask=exists, other=float("-inf"))
    odds = tl.where(exists, tl.exp(mine - tl.max(mine, axis=0)), 0.0)
    whole = tl.sum(odds, axis=0)
    if is_sigmoid != 0:
        odds = tl.where(exists, 1.0 / (1.0 + tl.exp(-mine)), 0.0)
        whole = 1.0
    # Logits have the order of their softmax, also where an exponential underflows.
    scores = mine
    if (is_sigmoid != 0) | (has_bias != 0) | (groups > 1):
        scores = odds / whole
    if has_bias != 0:
        scores += tl.load(bias + expert, mask=exists, other=0.0)
    scores = tl.where(scores == scores, scores, float("-inf"))
    if groups > 1:
        exists = in_best_groups(scores, expert, expert_count, groups, groups_used, EXPERTS)
    left = exists
    total = 0.0
    for choice in range(0, used):
        best = tl.max(tl.where(left, scores, float("-inf")), axis=0)
        chosen = tl.min(tl.where(left & (scores == best), expert, EXPERTS), axis=0)
        tl.store(experts + token * used + choice, tl.minimum(chosen, expert_count - 1))
        total += tl.sum(tl.where(expert == chosen, odds, 0.0), axis=0)
        left = left & (expert != chosen)
    if is_sigmoid != 0:
        total = tl.maximum(total, 6.103515625e-05)
    if renormalize == 0:
        total = whole
    # The loop again, since what a program stores it may not read back without a barrier.
    left = exists
    for choice in range(0, used):
        best = tl.max(tl.where(left, scores, float("-inf")), axis=0)
        chosen = tl.min(tl.where(left & (scores == best), expert, EXPERTS), axis=0)
        share = tl.sum(tl.where(expert == chosen, odds, 0.0), axis=0)
        tl.store(shares + token * used + choice, share / total * scale)
        left = left & (expert != chosen)


@triton.jit
def place_groups(
    slots, block_experts, experts, tokens, groups, block_rows, blocks, BLOCK: tl.constexpr
):
    """Slots where every group of a token has a matrix of its own, slot t * groups + g that of g.

    Without blocks: experts int32 [tokens * groups], the matrix of each slot. With them what
    `place_slots` gives, without a search. Program i: BLOCK numbers.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if blocks == 0:
        tl.store(experts + at, at % groups, mask=at < tokens * groups)
    else:
        of_group = (tokens + block_rows - 1) // block_rows
        block = at // block_rows
        group = block // of_group
        token = block % of_group * block_rows + at % block_rows
        exists = (group < groups) & (token < tokens)
        slot = tl.where(exists, token * groups + group, -1)
        tl.store(slots + at, slot, mask=block < blocks)
        group = at // of_group
        tl.store(block_experts + at, tl.where(group < groups, group, -1), mask=at < blocks)


@triton.jit
def place_slots(
    slots, block_experts, experts, count, expert_count, block_rows, blocks,
    EXPERTS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Sorts slots by expert into blocks of `block_rows`, each of one expert.

    slots int32 [blocks * block_rows]: -1 fills a block up; block_experts int32 [blocks]: -1 where
    a block is not used. Program e: the blocks of expert e; the last also those of none.
    """
    own = tl.program_id(0)
    expert = tl.arange(0, EXPERTS)
    counts = tl.zeros([EXPERTS], tl.int32)
    for first in range(0, count, SLOTS):
        at = first + tl.arange(0, SLOTS)
        chosen = tl.load(experts + at, mask=at < count, other=-1)
        counts += tl.sum((chosen[:, None] == expert[None, :]).to(tl.int32), axis=0)
    own_blocks = (counts + block_rows - 1) // block_rows
    first_block = tl.sum(tl.where(expert < own, own_blocks, 0), axis=0)
    last_block = first_block + tl.sum(tl.where(expert == own, own_blocks, 0), axis=0)
    placed = first_block * block_rows
    for first in range(0, count, SLOTS):
        at = first + tl.arange(0, SLOTS)
        is_own = (tl.load(experts + at, mask=at < count, other=-1) == own) & (at < count)
        ones = is_own.to(tl.int32)
        tl.store(slots + placed + tl.cumsum(ones, axis=0) - 1, at, mask=is_own)
        placed += tl.sum(ones, axis=0)
    end = last_block * block_rows
    for first in range(placed, end, SLOTS):
        at = first + tl.arange(0, SLOTS)
        tl.store(slots + at, at * 0 - 1, mask=at < end)
    for first in range(first_block, last_block, SLOTS):
        at = first + tl.arange(0, SLOTS)
        tl.store(block_experts + at, at * 0 + own, mask=at < last_block)
    if own == expert_count - 1:
        for first in range(last_block, blocks, SLOTS):
            at = first + tl.arange(0, SLOTS)
            tl.store(block_experts + at, at * 0 - 1, mask=at < blocks)


@triton.jit
def combine_answers(y, answers, shares, columns, used, BLOCK: tl.constexpr):
    """y[t] = sum of shares[slot] * answers[slot] over the token's slots, the best first.

    Program (t, c): BLOCK columns of token t.
    """
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = at < columns
    total = tl.zeros([BLOCK], tl.float32)
    for choice in range(0, used):
        slot = token * used + choice
        share = tl.load(shares + slot)
        total += share * tl.load(answers + slot * columns + at, mask=mask, other=0.0)
    tl.store(y + token * columns + at, total, mask=mask)
