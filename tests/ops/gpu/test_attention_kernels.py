"""Paged attention, rotation and page writes of the GPU kernels, interpreted, as defined."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from runtime.ops.gpu.variants import HEAD_WIDTHS
from runtime.ops.reference import (
    paged_attention,
    rotary_angles,
    rotary_page_write,
)
from tests.ops.gpu.interpreter import ceiling, launch, variant_of
from tests.ops.paged_steps import PagedStep


def head_variant(head_dim: int) -> str:
    width = next(width for width in HEAD_WIDTHS if head_dim <= width)
    return str(width) if head_dim == width else f"below_{width}"


def scale_of(step: PagedStep) -> float:
    """Logits of wide heads stay as small as those of others: queries are rounded to float16."""
    return 0.3 if step.head_dim <= 256 else 0.1


def attend(
    step: PagedStep, inputs: dict[str, Any], *, window: int = 0, softcap: float = 0.0
) -> np.ndarray:
    """PagedAttention by the decode and the prefill kernel, launched as a session does."""
    name = head_variant(step.head_dim)
    decode, prefill = (variant_of(f"{kind}_attention.{name}") for kind in ("decode", "prefill"))
    table, sinks, layer = inputs["page_table"], inputs["sinks"], step.layers - 1
    pool = np.ascontiguousarray(inputs["pool"][layer])
    rows, per_head = len(step.lengths), step.heads // step.kv_heads
    groups = step.kv_heads * ceiling(per_head, decode.constants["ROWS"])
    splits = ceiling(table.shape[1] * step.page_size, decode.constants["SPLIT"])
    y: np.ndarray = np.full_like(inputs["q"], np.nan)
    tile = decode.constants["ROWS"]
    may_be_long = step.tokens != rows and step.tokens > max(1, tile // per_head)
    states = min(tile, per_head) if step.tokens == rows else tile
    partial = np.full((rows, groups, splits, states, step.head_dim), np.nan)
    partial, stats = partial.astype(np.float32), partial[..., :2].astype(np.float32)
    place = [inputs["positions"], inputs["row_starts"]]
    heads = [step.heads, step.kv_heads, step.head_dim]
    paged: list[float] = [table.shape[1], step.page_size, window, int(sinks is not None)]
    paged += [scale_of(step), softcap]
    reads = [inputs["q"], pool, *place, table, sinks]
    if rows > 1 or not may_be_long:
        grid: tuple[int, ...] = (rows, groups, splits)
        launch(decode.name, grid, y, partial, stats, *reads, *heads, *paged, states)
        if splits > 1:
            launch(
                f"merge_attention.{name}",
                (rows, groups),
                *(y, partial, stats, *place, sinks, *heads, splits),
                *(window, int(sinks is not None), states),
            )
    if not may_be_long:
        return y
    block_tokens = max(1, prefill.constants["ROWS"] // per_head)
    groups = step.kv_heads * ceiling(per_head, prefill.constants["ROWS"])
    grid = (step.tokens // block_tokens + rows, groups)
    launch(prefill.name, grid, y, *reads, rows, *heads, *paged)
    return y


STEPS = [
    PagedStep(lengths=(1,), new=(1,)),
    PagedStep(lengths=(40, 9, 1, 70), new=(1, 9, 1, 33)),
    PagedStep(lengths=(5, 6), new=(0, 2), heads=9, kv_heads=3, head_dim=64, page_size=16),
    PagedStep(lengths=(1100, 530), new=(1, 2), heads=7, kv_heads=1, head_dim=128, page_size=32),
    PagedStep(lengths=(45,), new=(45,), heads=5, kv_heads=5, head_dim=48, page_size=1),
    PagedStep(lengths=(70,), new=(20,), heads=36, kv_heads=2, head_dim=96, page_size=7),
    PagedStep(lengths=(90, 3), new=(10, 1), heads=4, kv_heads=2, head_dim=160, page_size=64),
    PagedStep(lengths=(33, 20), new=(1, 20), heads=2, kv_heads=1, head_dim=256, page_size=16),
    PagedStep(lengths=(530, 20), new=(1, 20), heads=16, kv_heads=1, head_dim=576, page_size=64),
    PagedStep(lengths=(33, 40), new=(1, 40), heads=3, kv_heads=3, head_dim=304, page_size=16),
]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 11},
    "softcap_sinks": {"softcap": 2.0, "sinks": True},
    "window_sinks": {"window": 40, "sinks": True},
}
WIDE_HEADS = {128, 304, 576}
"""Whose steps take the interpreter seconds: `make test` has one set of options with them."""


def cases() -> Iterator[Any]:
    """Every step with every option."""
    for step, (name, options) in product(STEPS, OPTIONS.items()):
        is_long = step.head_dim in WIDE_HEADS and name != "window_sinks"
        marks = [pytest.mark.long] if is_long else []
        yield pytest.param(step, options, id=f"{name}-{step.lengths}x{step.head_dim}", marks=marks)


@pytest.mark.parametrize(("step", "options"), list(cases()))
def test_attention_is_as_defined(
    random: np.random.Generator, step: PagedStep, options: dict[str, Any]
) -> None:
    options = dict(options)
    has_sinks = options.pop("sinks", False)
    inputs: dict[str, Any] = {
        "q": step.activations(random, step.heads),
        "pool": step.pool(random),
        "positions": step.positions,
        "row_starts": step.row_starts,
        "page_table": step.page_table(random),
        "sinks": random.standard_normal(step.heads).astype(np.float32) if has_sinks else None,
    }
    expected = paged_attention(**inputs, **step.attributes, scale=scale_of(step), **options)
    result = attend(step, inputs, **options)
    np.testing.assert_allclose(result, expected, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("style", ["norm", "neox"])
@pytest.mark.parametrize(
    ("step", "rotary"),
    [
        (PagedStep(lengths=(20, 9), new=(3, 9)), 16),
        (PagedStep(lengths=(5, 6, 7), new=(0, 2, 1), heads=3, kv_heads=1, head_dim=96), 64),
        (PagedStep(lengths=(4,), new=(4,), heads=2, kv_heads=2, head_dim=160, page_size=1), 0),
        (PagedStep(lengths=(9, 4), new=(1, 4), heads=2, kv_heads=1, head_dim=576), 64),
    ],
)
def test_keys_are_rotated_and_written_as_defined(
    random: np.random.Generator, step: PagedStep, rotary: int, style: Any
) -> None:
    frequencies = random.random(rotary // 2).astype(np.float32)
    inputs: dict[str, Any] = {
        "q": step.activations(random, step.heads),
        "k": step.activations(random, step.kv_heads),
        "v": step.activations(random, step.kv_heads),
        "positions": step.positions,
        "row_starts": step.row_starts,
        "page_table": step.page_table(random),
        "angles": rotary_angles(step.positions, frequencies),
    }
    pool = step.pool(random)
    expected, written = rotary_page_write(**inputs, pool=pool, **step.attributes, style=style)
    rotated = np.full_like(inputs["q"], np.nan)
    layer = step.layers - 1
    launch(
        "rotary_page_write",
        (
            step.tokens,
            step.heads + 2 * step.kv_heads,
            ceiling(step.head_dim, variant_of("rotary_page_write").constants["BLOCK"]),
        ),
        *(rotated, pool[layer], inputs["q"], inputs["k"], inputs["v"], inputs["angles"]),
        *(inputs["positions"], inputs["row_starts"], inputs["page_table"]),
        *(step.heads, step.kv_heads, step.head_dim, rotary, len(step.lengths)),
        *(inputs["page_table"].shape[1], step.page_size, int(style == "norm")),
    )
    np.testing.assert_allclose(rotated, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pool.astype(np.float32), written.astype(np.float32), rtol=1e-3)
