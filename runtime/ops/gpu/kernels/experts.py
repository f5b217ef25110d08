"""Mixture of experts: which experts answer a token, and the sum of their answers.

A slot is an answer: slot t * used + i is the i-th best expert's for token t.
"""

import triton
import triton.language as tl


@triton.jit
def route_tokens(
    experts, shares, logits, expert_count, used, renormalize, scale, EXPERTS: tl.constexpr
):
    """The `used` experts of the largest logits, of equal ones the first, and their shares.

    Program t: token t. Shares are the softmax over all logits, or over the chosen ones.
    """
    token = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, EXPERTS)
    exists = expert < expert_count
    mine = tl.load(logits + token * expert_count + expert, mask=exists, other=float("-inf"))
    largest = tl.max(mine, axis=0)
    weights = tl.where(exists, tl.exp(mine - largest), 0.0)
    left = mine
    total = 0.0
    for choice in range(0, used):
        best = tl.max(left, axis=0)
        chosen = tl.min(tl.where((left == best) & exists, expert, EXPERTS), axis=0)
        is_chosen = expert == chosen
        share = tl.sum(tl.where(is_chosen, weights, 0.0), axis=0)
        tl.store(experts + token * used + choice, tl.minimum(chosen, expert_count - 1))
        total += share
        left = tl.where(is_chosen, float("-inf"), left)
        exists = exists & (expert != chosen)
    if renormalize == 0:
        total = tl.sum(weights, axis=0)
    # The loop again, since what a program stores it may not read back without a barrier.
    exists = expert < expert_count
    left = mine
    for choice in range(0, used):
        best = tl.max(left, axis=0)
        chosen = tl.min(tl.where((left == best) & exists, expert, EXPERTS), axis=0)
        is_chosen = expert == chosen
        share = tl.sum(tl.where(is_chosen, weights, 0.0), axis=0)
        tl.store(shares + token * used + choice, share / total * scale)
        left = tl.where(is_chosen, float("-inf"), left)
        exists = exists & (expert != chosen)


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
