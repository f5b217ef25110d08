"""ONNX's own operators as GPU kernels, interpreted, as NumPy has them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.ops.gpu.interpreter import ceiling, launch, variant_of

OF_ONE: tuple[Callable[[Any], Any], ...] = (
    lambda x: x,
    lambda x: 1 / (1 + np.exp(-x)),
    lambda x: np.maximum(x, 0),
    *(np.tanh, np.floor, np.log, np.exp, np.abs, np.negative),
    lambda x: np.clip(x, 0.5, 1.5),
)
OF_TWO = (np.add, np.subtract, np.multiply, np.divide, np.minimum)


def block_of(name: str) -> int:
    return int(variant_of(name).constants["BLOCK"])


@pytest.mark.parametrize("columns", [48, 1500])
def test_rows_are_gathered(random: np.random.Generator, columns: int) -> None:
    x = random.standard_normal((5, columns)).astype(np.float32)
    indices = np.array([4, 0, 0, -1], np.int32)
    y = np.full((len(indices), columns), np.nan, np.float32)
    grid = (len(indices), ceiling(columns, block_of("gather_rows")))
    launch("gather_rows", grid, y, x, indices, len(x), columns)
    np.testing.assert_array_equal(y, x[indices])


@pytest.mark.parametrize("columns", [8, 1500])
def test_the_largest_of_rows(random: np.random.Generator, columns: int) -> None:
    x = random.standard_normal((5, columns)).astype(np.float32) - 10
    y = np.full(len(x), np.nan, np.float32)
    launch("row_maximum", (len(x),), y, x, columns)
    np.testing.assert_array_equal(y, x.max(axis=1))


@pytest.mark.parametrize("kind", range(len(OF_ONE)))
def test_functions_of_one_value(random: np.random.Generator, kind: int) -> None:
    x = (0.1 + 3 * random.random(1234)).astype(np.float32)
    y = np.full_like(x, np.nan)
    grid = (ceiling(x.size, block_of("map_values.fp32")),)
    launch("map_values.fp32", grid, y, x, x.size, kind, 0.5, 1.5)
    np.testing.assert_allclose(y, OF_ONE[kind](x), rtol=1e-5, atol=1e-6)


def test_integers_become_floats() -> None:
    x = np.arange(-600, 600, dtype=np.int32)
    y = np.full(x.shape, np.nan, np.float32)
    grid = (ceiling(x.size, block_of("map_values.i32")),)
    launch("map_values.i32", grid, y, x, x.size, 0, 0.0, 0.0)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("kind", range(len(OF_TWO)))
@pytest.mark.parametrize(
    ("shape", "inner", "repeat", "outer"),
    [
        ((7, 5, 48), 7 * 5 * 48, 1, 1),
        ((48,), 48, 7 * 5, 1),
        ((7, 1, 1), 1, 5 * 48, 7),
        ((1, 5, 1), 1, 48, 5),
        ((7, 1, 48), 48, 5, 7),
        ((1,), 1, 7 * 5 * 48, 1),
    ],
)
def test_functions_of_two_values_repeat_the_second(
    random: np.random.Generator,
    kind: int,
    shape: tuple[int, ...],
    inner: int,
    repeat: int,
    outer: int,
) -> None:
    a = random.standard_normal((7, 5, 48)).astype(np.float32)
    b = (1 + random.random(shape)).astype(np.float32)
    y = np.full_like(a, np.nan)
    grid = (ceiling(a.size, block_of("map_pairs")),)
    operands = (a.size, 1, 1, inner, repeat, outer)
    launch("map_pairs", grid, y, a, b, a.size, kind, *operands)
    np.testing.assert_allclose(y, OF_TWO[kind](a, b), rtol=1e-6)
