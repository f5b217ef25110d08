"""Whatever the operators are given, they compute or refuse; `make sanitize` watches the memory."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.ops.reference import row_bytes
from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS, whole_blocks
from tests.ops.conftest import Library
from tests.ops.paged_steps import PagedStep
from tests.ops.test_packing import packed

FORMATS = INTEGER_FORMATS + PLAIN_FORMATS
REALS = (0.0, -0.0, 1.0, 1e-45, 1.2e-38, 1e-30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan)
SIZES = st.sampled_from([0, 1, 2, 3, 31, 32, 33, 64, 96, 256, 2**31 - 1, 2**31, 2**62, -1])
SMALL = st.integers(0, 5)
INDICES = st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 7, 8, 15, 16, 2**31 - 1])
ANY = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FOUR = settings(ANY, max_examples=4)


def refused_or_computed(
    library: Library, op: str, inputs: dict[str, Any], outputs: int = 1, **attributes: Any
) -> list[np.ndarray] | None:
    """The outputs, or None where the operator or ONNX Runtime says what does not fit."""
    kinds: list[npt.DTypeLike] = [np.float32] * outputs
    if op == "RotaryPageWrite":
        kinds = [np.float32, np.float16]
    try:
        return library.run(op, inputs, kinds, threads=2, **attributes)
    except Exception as error:
        if not str(error):
            raise
        return None


def extreme_blocks(random: np.random.Generator, block_format: str, columns: int) -> np.ndarray:
    """uint8 [21, row_bytes]: of zeros, of ones, of 0x80, and of random bytes, scales included."""
    width = row_bytes(block_format, columns)
    blocks = random.integers(0, 256, (21, width), dtype=np.uint8)
    blocks[0], blocks[1], blocks[2] = 0, 255, 128
    return blocks


def extreme_rows(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """float32 [rows, columns]: ordinary numbers, and in all rows but the first every odd one."""
    x = random.standard_normal((rows, columns)).astype(np.float32)
    for row in range(1, rows):
        x[row, random.integers(0, columns, 1 + row % 4)] = REALS[row % len(REALS)]
    return x


@pytest.mark.parametrize("block_format", FORMATS)
def test_blocks_of_any_bytes_times_rows_of_any_numbers(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 96)
    blocks = extreme_blocks(random, block_format, columns)
    x = extreme_rows(random, 13, columns)
    attributes: dict[str, Any] = {"format": block_format, "columns": columns}
    layouts = [(blocks, attributes)]
    if block_format in INTEGER_FORMATS:
        panels = packed(library, block_format, blocks, columns)
        layouts.append((panels, {**attributes, "rows": len(blocks)}))
    results = []
    for weights, asked in layouts:
        inputs: dict[str, Any] = {"x": x, "blocks": weights, "bias": None}
        (y,) = library.run("QuantMatMul", inputs, [np.float32], threads=2, **asked)
        alone = {**inputs, "x": x[:1]}
        (first,) = library.run("QuantMatMul", alone, [np.float32], **asked)
        # An ordinary row has the bits it has without the others.
        np.testing.assert_array_equal(y[:1], first)
        results.append(y)
        every = {"blocks": weights, "ids": np.arange(21, dtype=np.int32)}
        library.run("RowLookup", every, [np.float32], **attributes)
    np.testing.assert_array_equal(results[0], results[-1])


@FOUR
@given(data=st.data())
@pytest.mark.parametrize("block_format", FORMATS)
def test_products_of_any_shape(best: Library, data: st.DataObject, block_format: str) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    columns, rows, outputs = data.draw(SIZES), data.draw(SMALL), data.draw(SMALL)
    width, bytes_of_row = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 300))
    blocks = random.integers(0, 256, (outputs, bytes_of_row), dtype=np.uint8)
    if data.draw(st.booleans()):
        blocks = blocks.reshape(outputs, bytes_of_row, 1)
    x = extreme_rows(random, rows, width) if width else np.zeros((rows, 0), np.float32)
    shared: dict[str, Any] = {"format": block_format, "columns": columns}
    refused_or_computed(
        best,
        "QuantMatMul",
        {"x": x, "blocks": blocks, "bias": np.zeros(data.draw(SMALL), np.float32)},
        rows=data.draw(SIZES),
        **shared,
    )
    ids = np.array(data.draw(st.lists(INDICES, max_size=5)), np.int32)
    refused_or_computed(best, "RowLookup", {"blocks": blocks, "ids": ids}, **shared)
    grouped = {"x": x, "blocks": blocks}
    refused_or_computed(best, "GroupedQuantMatMul", grouped, groups=data.draw(SIZES), **shared)
    count = data.draw(st.integers(1, 4))
    matrices = {f"blocks_{i}": blocks for i in range(min(count, 3))}
    refused_or_computed(
        best,
        "NormQuantMatMul",
        {"x": x, "weight": np.ones(width, np.float32), "residual": None}
        | {name: value for i in range(3) for name, value in _product(i, matrices)},
        outputs=4,
        columns=columns,
        formats=" ".join([block_format] * count),
        rows=" ".join(str(data.draw(SIZES)) for _ in range(count)),
        epsilon=1e-5,
        activation=data.draw(st.sampled_from(["", "silu", "gelu", "tanh"])),
    )


def _product(index: int, matrices: dict[str, np.ndarray]) -> list[tuple[str, Any]]:
    return [
        (f"blocks_{index}", matrices.get(f"blocks_{index}")),
        (f"bias_{index}", None),
    ]


@ANY
@given(data=st.data())
def test_experts_of_any_shape(best: Library, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    experts, tokens = data.draw(st.integers(0, 9)), data.draw(SMALL)
    columns, hidden = data.draw(st.sampled_from([32, 64])), 32
    router = extreme_rows(random, tokens + 1, experts)[1:] if experts else np.zeros((tokens, 0))
    matrices = {
        name: random.integers(0, 256, (rows * experts, size), dtype=np.uint8)
        for name, rows, size in (
            ("gate", hidden, columns * 34 // 32),
            ("up", hidden, columns * 34 // 32),
            ("down", columns, hidden * 34 // 32),
        )
    }
    refused_or_computed(
        best,
        "MixtureOfExperts",
        {
            "x": extreme_rows(random, tokens, columns),
            "router": router.astype(np.float32),
            **matrices,
            "gate_bias": None,
            "up_bias": None,
            "down_bias": None,
            "selection_bias": data.draw(
                st.sampled_from([None, np.full(experts, np.nan, np.float32)])
            ),
        },
        columns=data.draw(st.sampled_from([columns, 2**62])),
        hidden=data.draw(st.sampled_from([hidden, 2**62, 0])),
        formats=data.draw(st.sampled_from(["Q8_0 Q8_0 Q8_0", "Q8_0", "", "Q8_0 x Q8_0"])),
        used=data.draw(st.integers(0, 10) | SIZES),
        renormalize=data.draw(st.integers(-1, 2)),
        activation=data.draw(st.sampled_from(["silu", "gelu", "clamped_silu"])),
        gating=data.draw(st.sampled_from(["softmax", "sigmoid"])),
        groups=data.draw(st.integers(0, 9) | SIZES),
        groups_used=data.draw(st.integers(0, 9) | SIZES),
    )


@ANY
@given(data=st.data())
def test_steps_of_any_positions_rows_and_pages(best: Library, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    step = PagedStep(
        lengths=data.draw(st.tuples(SMALL, SMALL)), new=(1, 2), page_size=data.draw(SMALL) or 1
    )
    tokens = data.draw(st.integers(0, 4))

    def indices(*shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        return np.array(data.draw(st.tuples(*[INDICES] * count)), np.int32).reshape(shape)

    rows = data.draw(SMALL)
    starts = data.draw(
        st.sampled_from([np.array([0] * rows + [tokens], np.int32), indices(rows), indices(0)])
    )
    paged = {
        "positions": indices(tokens),
        "row_starts": starts,
        "page_table": indices(max(0, len(starts) - 1), data.draw(SMALL)),
    }
    pool = step.pool(random)
    if data.draw(st.booleans()):
        pool = pool.reshape(-1)[: 2 * 2 * data.draw(SMALL) * 16].reshape(1, -1, 2, 2, 1, 16)
    heads: dict[str, Any] = {
        **step.attributes,
        "layer": data.draw(st.sampled_from([0, 1, 2, -1, 2**31, 2**62])),
    }
    heads |= data.draw(
        st.sampled_from([{}, {"heads": 2**62}, {"kv_heads": 0}, {"head_dim": 2**61}])
    )
    q = extreme_rows(random, tokens, 64)
    k = extreme_rows(random, tokens, 32)
    refused_or_computed(
        best,
        "PagedAttention",
        {"q": q, "pool": pool, **paged, "sinks": None},
        scale=data.draw(st.sampled_from([0.1, np.inf, np.nan])),
        window=data.draw(st.sampled_from([0, 1, 2**31 - 1, 2**62, -1])),
        softcap=data.draw(st.sampled_from([0.0, 1e-45, np.nan])),
        **heads,
    )
    angles = np.zeros((tokens, data.draw(st.sampled_from([0, 1, 2, 16, 18]))), np.float32)
    refused_or_computed(
        best,
        "RotaryPageWrite",
        {"q": q, "k": k, "v": k, **paged, "angles": angles, "pool": pool},
        style=data.draw(st.sampled_from(["norm", "neox", "x"])),
        **heads,
    )


@ANY
@given(rows=SMALL, columns=st.integers(0, 40), weight=st.integers(0, 40), seed=st.integers(0, 99))
def test_norms_and_activations_of_any_shape(
    best: Library, rows: int, columns: int, weight: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = extreme_rows(random, rows, columns) if columns else np.zeros((rows, 0), np.float32)
    for op in ("RMSNorm", "LayerNorm"):
        inputs = {"x": x, "weight": np.ones(weight, np.float32), "residual": x[:, : columns // 2]}
        refused_or_computed(best, op, inputs, outputs=2, epsilon=float("nan"))
        inputs["residual"] = x
        refused_or_computed(best, op, inputs, outputs=2, epsilon=1e-6)
    gated = {"gate": x, "up": x[: rows // 2]}
    refused_or_computed(best, "GatedActivation", gated, activation="gelu")
    refused_or_computed(best, "GatedActivation", {"gate": x, "up": x}, activation="silu")
    positions = np.array([0, -1, 2**31 - 1, -(2**31)], np.int32)[:rows]
    frequencies = np.array(REALS, np.float32)[:weight]
    turned = {"positions": positions, "inverse_frequencies": frequencies}
    refused_or_computed(best, "RotaryAngles", turned, magnitude=float("inf"))
