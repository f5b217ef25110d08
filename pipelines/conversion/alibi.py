"""ALiBi, attention's bias by distance (arXiv 2108.12409), as columns of queries and keys."""

import numpy as np

from pipelines.conversion.architectures import ModelSpec
from pipelines.conversion.architectures.spec import ALIBI_COLUMNS
from pipelines.conversion.nodes import Nodes
from runtime.interface import POSITIONS

ALIBI_STEP = 256
"""Positions are written to keys as multiples of this, and the rest."""


def alibi_slopes(heads: int, largest: float) -> np.ndarray:
    """Return the slope of each head: a geometric sequence; beyond a power of two those between."""
    power = 1 << (heads.bit_length() - 1)
    exponents = [
        largest * (head + 1) / power
        if head < power
        else largest * (2 * (head - power) + 1) / (2 * power)
        for head in range(heads)
    ]
    slopes: np.ndarray = np.exp2(-np.array(exponents))
    return slopes


def write_alibi_columns(nodes: Nodes, head_dim: int) -> None:
    """Write columns [T, 1, D] that add positions to keys: multiples of ALIBI_STEP, and the rest.

    ALiBi adds -slope * (own position - key's position) to a logit. What all logits of a query
    have in common changes nothing, so the query's columns hold its slope and the key's its
    position, in two numbers that float16 has exactly.
    """
    name = "alibi"
    nodes.cast(f"{name}.position", POSITIONS)
    position = nodes.reshaped(f"{name}.positions", f"{name}.position", 1, 1)
    step = nodes.number(ALIBI_STEP)
    steps = nodes.plain("Div", f"{name}.steps", position, step)
    whole = nodes.plain("Floor", f"{name}.whole", steps)
    before = nodes.plain("Mul", f"{name}.before", whole, step)
    rest = nodes.plain("Sub", f"{name}.rest", position, before)
    both = nodes.joined(f"{name}.both", whole, rest, axis=2)
    width = head_dim - ALIBI_COLUMNS
    pads = np.array([0, 0, width, 0, 0, ALIBI_COLUMNS - 2], np.int64)
    nodes.plain("Pad", f"{name}.columns", both, nodes.stored(f"{name}.pads", pads))


def with_alibi(
    nodes: Nodes, spec: ModelSpec, block: str, page_heads: int, query: str, key: str
) -> tuple[str, str]:
    """Return queries and keys with the columns of ALiBi; page_heads: query heads of the pages."""
    width = spec.head_dim - ALIBI_COLUMNS
    rows = np.zeros((page_heads, spec.head_dim), np.float32)
    slopes = alibi_slopes(page_heads, spec.alibi) / spec.attention_scale
    rows[:, width], rows[:, width + 1] = slopes * ALIBI_STEP, slopes
    row = nodes.stored("alibi.slopes", rows.reshape(-1))
    by_head = nodes.reshaped(f"{key}.by_head", key, spec.kv_heads, spec.head_dim)
    placed = nodes.plain("Add", f"{block}.attn_k_placed", by_head, "alibi.columns")
    return (
        nodes.plain("Add", f"{block}.attn_q_sloped", query, row),
        nodes.reshaped(f"{placed}.flat", placed, spec.kv_heads * spec.head_dim),
    )
