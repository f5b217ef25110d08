"""Products and row lookups of the GPU kernels, interpreted, against their definition."""

import numpy as np
import pytest

from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.reference import dequantize_rows, quant_matmul, row_lookup
from tests.block_formats import weights, whole_blocks
from tests.ops.gpu.interpreter import ceiling, launch, rounded, variant_of, weight_arguments


def layout_of(block_format: str) -> str:
    return BLOCK_FORMATS[block_format].layout.name


def multiply(
    kernel: str,
    x: np.ndarray,
    blocks: np.ndarray,
    block_format: str,
    bias: np.ndarray | None,
    splits: int = 1,
) -> np.ndarray:
    """x @ weights.T + bias by one of the kernels, as a plain product."""
    planes, scalars = weight_arguments(block_format, blocks)
    name = f"{kernel}.{layout_of(block_format)}"
    constants = variant_of(name).constants
    rows, parts, count = len(blocks), x.shape[1] // 32, len(x)
    y = np.full((count, rows), np.nan, np.float32)
    flags = [int(bias is not None), 0, 1]
    if kernel == "one_row":
        grid = (ceiling(rows, constants["ROWS"]), count)
        launch(name, grid, y, x, bias, *planes, None, *scalars, rows, parts, *flags)
        return y
    tiles = (ceiling(rows, constants["COLUMNS"]), ceiling(count, constants["ROWS"]), splits)
    partial = np.full((splits, count, rows), np.nan, np.float32)
    read, shape = rounded(x, name), [rows, parts, count]
    launch(name, tiles, partial, read, bias, *planes, None, None, *scalars, *shape, *flags)
    if splits == 1:
        y[:] = partial[0]
        return y
    block = variant_of("sum_splits").constants["BLOCK"]
    launch("sum_splits", (ceiling(y.size, block),), y, partial, y.size, splits)
    return y


@pytest.mark.parametrize("block_format", BLOCK_FORMATS)
def test_one_row_is_multiplied_as_defined(random: np.random.Generator, block_format: str) -> None:
    columns = whole_blocks(block_format, 96)
    blocks = weights(random, block_format, 11, columns)
    x = random.standard_normal((1, columns)).astype(np.float32)
    y = multiply("one_row", x, blocks, block_format, None)
    expected = quant_matmul(x, blocks, format=block_format, columns=columns)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("block_format", BLOCK_FORMATS)
def test_many_rows_are_multiplied_as_defined(
    random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 160)
    blocks = weights(random, block_format, 37, columns)
    x = random.standard_normal((19, columns)).astype(np.float32)
    bias = random.standard_normal(37).astype(np.float32)
    y = multiply("few_rows", x, blocks, block_format, bias)
    expected = quant_matmul(x, blocks, bias, format=block_format, columns=columns)
    error = np.linalg.norm(y - expected) / np.linalg.norm(expected)
    assert error < (1e-6 if block_format == "F32" else 1e-3)


@pytest.mark.parametrize("block_format", ["F16", "Q4_0", "Q6_K"])
def test_the_large_tiles_multiply_as_the_small_ones(
    random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 96)
    blocks = weights(random, block_format, 70, columns)
    x = random.standard_normal((66, columns)).astype(np.float32)
    few = multiply("few_rows", x, blocks, block_format, None)
    many = multiply("many_rows", x, blocks, block_format, None)
    np.testing.assert_allclose(many, few, rtol=1e-3, atol=1e-3 * np.abs(few).max())


@pytest.mark.parametrize(("kernel", "count"), [("few_rows", 3), ("many_rows", 35)])
@pytest.mark.parametrize("splits", [2, 3, 5])
def test_splits_of_the_columns_add_up(
    random: np.random.Generator, kernel: str, count: int, splits: int
) -> None:
    columns = 32 * 11
    blocks = weights(random, "Q4_1", 37, columns)
    x = random.standard_normal((count, columns)).astype(np.float32)
    bias = random.standard_normal(37).astype(np.float32)
    y = multiply(kernel, x, blocks, "Q4_1", bias, splits)
    np.testing.assert_allclose(y, multiply(kernel, x, blocks, "Q4_1", bias), rtol=1e-5, atol=1e-4)


def test_activations_beyond_float16_are_cut_off(random: np.random.Generator) -> None:
    blocks = weights(random, "Q8_0", 4, 32, deviation=0.01)
    x = np.full((2, 32), 1e6, np.float32)
    y = multiply("few_rows", x, blocks, "Q8_0", None)
    expected = np.full((2, 32), 65504, np.float32) @ dequantize_rows(blocks, "Q8_0", 32).T
    np.testing.assert_allclose(y, expected, rtol=1e-2, atol=1)


@pytest.mark.parametrize("block_format", BLOCK_FORMATS)
def test_rows_are_looked_up_exactly(random: np.random.Generator, block_format: str) -> None:
    columns = whole_blocks(block_format, 96)
    blocks = weights(random, block_format, 13, columns)
    ids = np.array([12, 0, 5, 5], np.int32)
    planes, scalars = weight_arguments(block_format, blocks)
    name = f"row_lookup.{layout_of(block_format)}"
    y = np.full((len(ids), columns), np.nan, np.float32)
    grid = (len(ids), ceiling(columns // 32, variant_of(name).constants["PARTS"]))
    launch(name, grid, y, ids, *planes, *scalars, len(blocks), columns // 32)
    expected = row_lookup(blocks, ids, format=block_format, columns=columns)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)
