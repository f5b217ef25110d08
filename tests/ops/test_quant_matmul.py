from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.ops.library import block_formats
from runtime.ops.reference import (
    quant_matmul,
    quant_matmul_int8,
    quantize_activations,
    row_bytes,
)
from tests.block_formats import (
    INTEGER_FORMATS,
    PLAIN_FORMATS,
    raw_weights,
    weights,
    whole_blocks,
)
from tests.ops.conftest import Library


def activations(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return random.standard_normal((rows, columns)).astype(np.float32)


def multiply(
    library: Library, x: np.ndarray, blocks: np.ndarray, bias: np.ndarray | None, **options: Any
) -> np.ndarray:
    inputs = {"x": x, "blocks": blocks, "bias": bias}
    return library.run("QuantMatMul", inputs, [np.float32], columns=x.shape[1], **options)[0]


def test_every_format_that_the_library_names_is_tested_here() -> None:
    assert block_formats() == {*INTEGER_FORMATS, *PLAIN_FORMATS}


def shapes() -> Iterator[tuple[int, int, int]]:
    yield 1, 1, 32
    yield 1, 67, 96
    yield 2, 16, 64
    yield 9, 33, 160
    yield 30, 15, 32
    yield 300, 48, 64


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_integer_formats_multiply_as_defined(
    library: Library, random: np.random.Generator, block_format: str, with_bias: bool
) -> None:
    for rows, outputs, least in shapes():
        columns = whole_blocks(block_format, least)
        x = activations(random, rows, columns)
        blocks = raw_weights(random, block_format, outputs, columns)
        bias = activations(random, 1, outputs)[0] if with_bias else None
        expected = quant_matmul_int8(x, blocks, bias, format=block_format, columns=columns)
        y = multiply(library, x, blocks, bias, format=block_format)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("block_format", PLAIN_FORMATS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_plain_formats_multiply_as_defined(
    library: Library, random: np.random.Generator, block_format: str, with_bias: bool
) -> None:
    for rows, outputs, columns in [*shapes(), (3, 6, 1), (5, 9, 45)]:
        x = activations(random, rows, columns)
        blocks = weights(random, block_format, outputs, columns)
        bias = activations(random, 1, outputs)[0] if with_bias else None
        expected = quant_matmul(x, blocks, bias, format=block_format, columns=columns)
        y = multiply(library, x, blocks, bias, format=block_format)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
def test_rounding_activations_to_8_bits_costs_little(
    best: Library, random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 576)
    x, blocks = activations(random, 20, columns), weights(random, block_format, 64, columns)
    exact = quant_matmul(x, blocks, format=block_format, columns=columns)
    y = multiply(best, x, blocks, None, format=block_format)
    assert np.linalg.norm(y - exact) < 0.01 * np.linalg.norm(exact)


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), outlier=st.floats(1, 1e6))
def test_an_activation_is_rounded_by_its_groups_size_or_by_a_millionth_of_its_rows(
    seed: int, outlier: float
) -> None:
    x = activations(np.random.default_rng(seed), 3, 96)
    x[:, 5] *= outlier
    error = np.abs(quantize_activations(x).values() - x).reshape(3, -1, 8).max(axis=-1)
    of_group = np.abs(x).reshape(3, -1, 8).max(axis=-1)
    of_row = np.abs(x).max(axis=-1, keepdims=True)
    assert (error <= 0.5001 * (of_group / 127 + of_row / (127 * 4095))).all()


@pytest.mark.parametrize(
    ("block_format", "header", "code"),
    [("Q8_0", 1, 0x80), ("Q8_0", 1, 0x7F), ("Q5_1", 2, 0xFF), ("Q4_0", 1, 0xFF), ("IQ4_NL", 1, 0)],
)
def test_the_largest_sums_of_a_block_do_not_overflow(
    library: Library, block_format: str, header: int, code: int
) -> None:
    """Weights all at one end of their range, activations all at the other."""
    columns = whole_blocks(block_format, 64)
    one = np.array([1, 0][:header], np.float16).view(np.uint8)
    block = np.full(row_bytes(block_format, 32), code, np.uint8)
    block[: one.size] = one
    blocks = np.tile(block, (20, columns // 32))
    x = np.ones((9, columns), np.float32)
    x[1::2] = -3
    expected = quant_matmul(x, blocks, format=block_format, columns=columns)
    y = multiply(library, x, blocks, None, format=block_format)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
@pytest.mark.parametrize("rows", [1, 11])
def test_integer_formats_have_the_same_bits_on_every_instruction_set(
    library: Library, random: np.random.Generator, block_format: str, rows: int
) -> None:
    """Against plain scalar code, at any tile: sums in a block are exact, blocks add in order."""
    columns = whole_blocks(block_format, 320)
    x, blocks = activations(random, rows, columns), raw_weights(random, block_format, 70, columns)
    y = multiply(library, x, blocks, None, format=block_format)
    assert library.force("scalar")
    np.testing.assert_array_equal(y, multiply(library, x, blocks, None, format=block_format))


@pytest.mark.parametrize("block_format", INTEGER_FORMATS + PLAIN_FORMATS)
def test_a_row_alone_has_the_bits_it_has_in_company(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 160)
    x, blocks = activations(random, 150, columns), weights(random, block_format, 52, columns)
    bias = activations(random, 1, 52)[0]
    together = multiply(library, x, blocks, bias, format=block_format, threads=2)
    for first, some in [(0, 1), (149, 1), (70, 1), (3, 2), (9, 3), (20, 7), (0, 130), (31, 64)]:
        part = multiply(library, x[first : first + some], blocks, bias, format=block_format)
        np.testing.assert_array_equal(part, together[first : first + some])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block_format=st.sampled_from(INTEGER_FORMATS + PLAIN_FORMATS),
    rows=st.integers(0, 40),
    outputs=st.integers(1, 80),
    blocks_per_row=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_any_shape(
    best: Library, block_format: str, rows: int, outputs: int, blocks_per_row: int, seed: int
) -> None:
    random, columns = np.random.default_rng(seed), whole_blocks(block_format, 32 * blocks_per_row)
    x, blocks = activations(random, rows, columns), weights(random, block_format, outputs, columns)
    definition = quant_matmul if block_format in PLAIN_FORMATS else quant_matmul_int8
    y = multiply(best, x, blocks, None, format=block_format)
    expected = definition(x, blocks, format=block_format, columns=columns) if rows else y
    assert y.shape == (rows, outputs)
    tolerance = 1e-5 * np.abs(expected).max(initial=5)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
def test_unusual_activations(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    """Zero blocks give zero, huge and tiny ones stay finite, what is not finite stays visible."""
    columns = whole_blocks(block_format, 64)
    blocks = weights(random, block_format, 20, columns)
    x = np.zeros((6, columns), np.float32)
    x[1], x[2], x[3] = 1e30, 1e-38, 1e-25
    x[4, 40], x[5, 0] = np.inf, np.nan
    x[5, 1:] = np.nan
    y = multiply(library, x, blocks, None, format=block_format)
    assert not y[0].any()
    assert np.isfinite(y[:4]).all()
    assert y[1].any()
    assert not y[2].any()
    assert y[3].any()
    assert not np.isfinite(y[4:]).any()


@pytest.mark.parametrize(
    ("x", "blocks", "bias", "message"),
    [
        ((2, 32), (3, 20), None, r"x has shape \[2, 32\], expected \[\*, 64\]"),
        ((2, 64), (3, 20), None, r"blocks has shape \[3, 20\], expected \[\*, 40\]"),
        ((2, 64), (3, 40), (4,), r"bias has shape \[4\], expected \[3\]"),
        ((1, 2, 64), (3, 40), None, r"x has shape \[1, 2, 64\]"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(
    best: Library, x: tuple, blocks: tuple, bias: tuple | None, message: str
) -> None:
    inputs: dict[str, Any] = {
        "x": np.zeros(x, np.float32),
        "blocks": np.zeros(blocks, np.uint8),
        "bias": None if bias is None else np.zeros(bias, np.float32),
    }
    with pytest.raises(Exception, match="QuantMatMul: " + message):
        best.run("QuantMatMul", inputs, [np.float32], format="Q4_1", columns=64)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"format": "Q9_9", "columns": 64}, "format 'Q9_9' is unknown"),
        ({"format": "Q4_1", "columns": 48}, "columns 48 are not whole Q4_1 blocks"),
        ({"format": "Q4_K", "columns": 320}, "columns 320 are not whole Q4_K blocks"),
        ({"format": "Q4_1"}, "columns is missing"),
        ({"columns": 64}, "format is missing"),
        ({"format": "Q4_1", "columns": 0}, "columns is 0, the least is 1"),
    ],
)
def test_attributes_that_do_not_fit_are_errors(
    best: Library, attributes: dict[str, Any], message: str
) -> None:
    inputs: dict[str, Any] = {
        "x": np.zeros((2, 64), np.float32),
        "blocks": np.zeros((3, 40), np.uint8),
    }
    with pytest.raises(Exception, match="QuantMatMul: " + message):
        best.run("QuantMatMul", inputs, [np.float32], **attributes)
