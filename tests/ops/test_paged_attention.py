from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.ops.reference import paged_attention
from tests.ops.conftest import Library
from tests.ops.paged_steps import PagedStep

TOLERANCE: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5}


def inputs_of(
    step: PagedStep, random: np.random.Generator, *, sinks: bool = False
) -> dict[str, Any]:
    return {
        "q": step.activations(random, step.heads),
        "pool": step.pool(random),
        "positions": step.positions,
        "row_starts": step.row_starts,
        "page_table": step.page_table(random),
        "sinks": random.standard_normal(step.heads).astype(np.float32) if sinks else None,
    }


def attend(library: Library, inputs: dict[str, Any], step: PagedStep, **options: Any) -> np.ndarray:
    attributes = {"scale": 0.3, **step.attributes, **options}
    return library.run("PagedAttention", inputs, [np.float32], **attributes)[0]


@pytest.mark.parametrize(
    "step",
    [
        PagedStep(lengths=(1,), new=(1,)),
        PagedStep(lengths=(40, 9, 1, 70), new=(1, 9, 1, 33)),
        PagedStep(lengths=(5, 6), new=(0, 2), heads=9, kv_heads=3, head_dim=64, page_size=16),
        PagedStep(lengths=(600,), new=(1,), heads=3, kv_heads=1, head_dim=20, page_size=32),
        PagedStep(lengths=(50,), new=(50,), heads=5, kv_heads=5, head_dim=7, page_size=1),
        PagedStep(lengths=(300,), new=(40,), heads=4, kv_heads=2, head_dim=160, page_size=64),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 11},
        {"softcap": 2.0},
        {"window": 40, "softcap": 1.5, "sinks": True},
        {"causal": 0},
        {"causal": 0, "window": 11},
    ],
    ids=["plain", "window", "softcap", "everything", "both ways", "window both ways"],
)
def test_attends_as_defined(
    library: Library, random: np.random.Generator, step: PagedStep, options: dict[str, Any]
) -> None:
    options = dict(options)
    inputs = inputs_of(step, random, sinks=options.pop("sinks", False))
    expected = paged_attention(**inputs, **step.attributes, scale=0.3, **options)
    np.testing.assert_allclose(attend(library, inputs, step, **options), expected, **TOLERANCE)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_attends_as_defined_to_any_rows(best: Library, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))
    lengths = data.draw(st.tuples(*[st.integers(1, 90)] * rows))
    kv_heads = data.draw(st.integers(1, 3))
    step = PagedStep(
        lengths=lengths,
        new=tuple(data.draw(st.integers(0, n)) for n in lengths),
        heads=kv_heads * data.draw(st.integers(1, 4)),
        kv_heads=kv_heads,
        head_dim=data.draw(st.integers(1, 70)),
        page_size=data.draw(st.integers(1, 40)),
    )
    window = data.draw(st.integers(0, 100))
    inputs = inputs_of(step, np.random.default_rng(data.draw(st.integers(0, 1000))))
    expected = paged_attention(**inputs, **step.attributes, scale=0.3, window=window)
    np.testing.assert_allclose(attend(best, inputs, step, window=window), expected, **TOLERANCE)


def test_a_token_alone_has_the_bits_it_has_in_company(
    library: Library, random: np.random.Generator
) -> None:
    step = PagedStep(lengths=(700, 45, 90), new=(40, 45, 1), head_dim=24)
    inputs = inputs_of(step, random, sinks=True)
    together = attend(library, inputs, step, window=500)
    token = 0
    for row, (length, new) in enumerate(zip(step.lengths, step.new, strict=True)):
        table = inputs["page_table"][row : row + 1]
        for cut in {1, 3, new}:
            for first in range(0, new, cut):
                some = min(cut, new - first)
                alone = replace(step, lengths=(length - new + first + some,), new=(some,))
                chosen = slice(token + first, token + first + some)
                mine = {
                    **inputs,
                    "q": inputs["q"][chosen],
                    "positions": alone.positions,
                    "row_starts": alone.row_starts,
                    "page_table": table,
                }
                if cut > 1 or first % 13 == 0:
                    y = attend(library, mine, step, window=500, threads=2)
                    np.testing.assert_array_equal(y, together[chosen])
        token += new


def test_pages_that_are_not_attended_to_are_not_read(
    best: Library, random: np.random.Generator
) -> None:
    step = PagedStep(lengths=(13, 3), new=(4, 1))
    inputs = inputs_of(step, random)
    expected = attend(best, inputs, step)
    clean = inputs["pool"].copy()
    inputs["pool"][:] = np.nan
    for row, length in enumerate(step.lengths):
        for position in range(length):
            page, slot = inputs["page_table"][row, position // 8], position % 8
            inputs["pool"][:, page, :, :, slot] = clean[:, page, :, :, slot]
    np.testing.assert_array_equal(attend(best, inputs, step), expected)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("page_table", [[0, 99, -1]], r"page_table names page 99 in row 0, the pool has 6"),
        ("page_table", [[-1, 0, 0]], r"page_table names page -1 in row 0"),
        ("page_table", [[0]], r"positions has 8, row 0 has room for 8"),
        ("page_table", [[0, 1], [0, 1]], r"page_table has shape \[2, 2\], expected \[1, \*\]"),
        ("positions", [7, -2], r"positions has -2"),
        ("positions", [7, 2**31 - 1], r"positions has 2147483647"),
        ("positions", [7], r"positions has shape \[1\], expected \[2\]"),
        ("row_starts", [0, 1], r"row_starts does not rise from 0 to the 2 tokens"),
        ("row_starts", [1, 2], r"row_starts does not rise"),
        ("row_starts", [], r"row_starts is empty|page_table has shape"),
    ],
)
def test_indices_out_of_range_are_errors(
    best: Library, random: np.random.Generator, field: str, value: list, message: str
) -> None:
    step = PagedStep(lengths=(9,), new=(2,))
    inputs = inputs_of(step, random)
    assert step.pages == 6
    inputs[field] = np.array(value, dtype=np.int32)
    with pytest.raises(Exception, match="PagedAttention: " + f"({message})"):
        attend(best, inputs, step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 2}, "layer 2 is not in a pool of 2 layers"),
        ({"layer": -1}, "layer is -1"),
        ({"heads": 3}, "heads 3 are not a multiple of the 2 kv_heads"),
        ({"head_dim": 8}, r"q has shape \[2, 64\], expected \[\*, 32\]"),
        ({"window": -1}, "window is -1"),
    ],
)
def test_attributes_that_do_not_fit_are_errors(
    best: Library, random: np.random.Generator, options: dict[str, Any], message: str
) -> None:
    step = PagedStep(lengths=(9,), new=(2,))
    with pytest.raises(Exception, match="PagedAttention: " + message):
        attend(best, inputs_of(step, random), step, **options)
