"""Each slice of x is multiplied by its own matrix, as the file has it or packed."""

import numpy as np
import pytest

from runtime.ops.packing import pack, packed_shape
from runtime.ops.reference import grouped_quant_matmul, quantize_activations
from tests.block_formats import weights
from tests.ops.conftest import Library
from tests.ops.test_quant_matmul import activations

GROUPS, COLUMNS, ROWS = 5, 96, 48


def multiply(
    library: Library, x: np.ndarray, blocks: np.ndarray, block_format: str, threads: int = 1
) -> np.ndarray:
    return library.run(
        "GroupedQuantMatMul",
        {"x": x, "blocks": blocks},
        [np.float32],
        threads=threads,
        format=block_format,
        columns=COLUMNS,
        groups=GROUPS,
    )[0]


@pytest.mark.parametrize("block_format", ["F32", "F16", "Q4_0", "Q8_0"])
@pytest.mark.parametrize("tokens", [1, 11])
def test_groups_are_multiplied_as_defined(
    library: Library, random: np.random.Generator, block_format: str, tokens: int
) -> None:
    x = activations(random, tokens, GROUPS * COLUMNS)
    blocks = weights(random, block_format, GROUPS * ROWS, COLUMNS)
    rounded = x
    if not block_format.startswith("F"):  # each group is a row of its own
        rounded = quantize_activations(x.reshape(-1, COLUMNS)).values().reshape(x.shape)
    expected = grouped_quant_matmul(
        rounded, blocks, format=block_format, columns=COLUMNS, groups=GROUPS
    )
    y = multiply(library, x, blocks, block_format)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def test_no_tokens_give_nothing(best: Library, random: np.random.Generator) -> None:
    blocks = weights(random, "Q4_0", GROUPS * ROWS, COLUMNS)
    x = activations(random, 0, GROUPS * COLUMNS)
    assert multiply(best, x, blocks, "Q4_0").shape == (0, GROUPS * ROWS)


def test_packed_matrices_give_the_bits_of_those_in_the_file(
    library: Library, random: np.random.Generator
) -> None:
    x = activations(random, 7, GROUPS * COLUMNS)
    blocks = weights(random, "Q8_0", GROUPS * ROWS, COLUMNS)
    shape = packed_shape("Q8_0", GROUPS * ROWS, COLUMNS, matrices=GROUPS)
    assert shape is not None
    packed = np.empty(shape, np.uint8)
    pack("Q8_0", blocks, packed)
    expected = multiply(library, x, blocks, "Q8_0")
    np.testing.assert_array_equal(multiply(library, x, packed, "Q8_0", threads=2), expected)


def test_a_token_is_multiplied_alike_alone_and_in_company(
    library: Library, random: np.random.Generator
) -> None:
    x = activations(random, 40, GROUPS * COLUMNS)
    blocks = weights(random, "Q4_0", GROUPS * ROWS, COLUMNS)
    together = multiply(library, x, blocks, "Q4_0", threads=2)
    for token in (0, 17, 39):
        alone = multiply(library, x[token : token + 1], blocks, "Q4_0")
        np.testing.assert_array_equal(alone[0], together[token])


def test_rows_that_are_no_whole_matrices_are_refused(
    best: Library, random: np.random.Generator
) -> None:
    blocks = weights(random, "F32", GROUPS * ROWS - 1, COLUMNS)
    with pytest.raises(Exception, match="GroupedQuantMatMul: blocks does not have the rows"):
        multiply(best, activations(random, 2, GROUPS * COLUMNS), blocks, "F32")
