"""The search for the largest logits, interpreted: NumPy's stable order."""

import numpy as np
import pytest

from runtime.ops.gpu.variants import CANDIDATES
from tests.ops.gpu.interpreter import ceiling, launch, variant_of


def best_of(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and tokens [R, CANDIDATES], searched in blocks as a session does."""
    rows, block = len(logits), variant_of("candidates").constants["BLOCK"]
    values, tokens = logits, None
    while True:
        columns = values.shape[1]
        blocks = ceiling(columns, block)
        found = np.full((rows, blocks * CANDIDATES), np.nan, np.float32)
        places = np.full(found.shape, -7, np.int32)
        flags = [columns, int(tokens is not None)]
        launch("candidates", (rows, blocks), found, places, values, tokens, *flags)
        values, tokens = found, places
        if blocks == 1:
            return values, tokens


@pytest.mark.parametrize("columns", [40, 64, 1024, 2100])
def test_the_largest_are_found_of_equal_ones_the_lowest_tokens(
    random: np.random.Generator, columns: int
) -> None:
    # A row of many equal values, and one of few.
    distinct = np.array([[3], [1 << 20]])
    logits = (random.integers(-distinct, distinct, (2, columns)) / 7).astype(np.float32)
    logits[0, ::5] = -np.inf
    # Both zeros are one value.
    logits[:, 1::3] = -0.0
    values, tokens = best_of(logits)
    count = min(columns, CANDIDATES)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(tokens[:, :count], expected)
    np.testing.assert_array_equal(values[:, :count], np.take_along_axis(logits, expected, axis=1))


def test_a_row_that_is_not_finite_shows_it(random: np.random.Generator) -> None:
    logits = random.standard_normal((4, 70)).astype(np.float32)
    logits[1, 43], logits[2, 17] = np.nan, np.inf
    logits[3, 30] = np.copysign(np.nan, -1.0)
    values, tokens = best_of(logits)
    assert np.isfinite(values[:, 0]).tolist() == [True, False, False, False]
    assert tokens[1:, 0].tolist() == [43, 17, 30]


def test_what_is_not_finite_in_a_later_block_is_found(random: np.random.Generator) -> None:
    logits = random.standard_normal((1, variant_of("candidates").constants["BLOCK"] + 20))
    logits = logits.astype(np.float32)
    logits[0, -3] = np.copysign(np.nan, -1.0)
    values, tokens = best_of(logits)
    assert np.isnan(values[0, 0])
    assert tokens[0, 0] == logits.shape[1] - 3
