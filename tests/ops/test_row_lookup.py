from typing import Any

import numpy as np
import pytest

from runtime.ops.reference import row_lookup
from tests.block_formats import (
    INTEGER_FORMATS,
    PLAIN_FORMATS,
    raw_weights,
    weights,
    whole_blocks,
)
from tests.ops.conftest import Library


@pytest.mark.parametrize("block_format", INTEGER_FORMATS + PLAIN_FORMATS)
@pytest.mark.parametrize("columns", [32, 160, 37])
def test_rows_are_dequantized_exactly(
    library: Library, random: np.random.Generator, block_format: str, columns: int
) -> None:
    if block_format in INTEGER_FORMATS:
        columns = whole_blocks(block_format, columns)
        blocks = raw_weights(random, block_format, 11, columns)
    else:
        blocks = weights(random, block_format, 11, columns)
    ids = np.array([10, 0, 3, 3, 7], dtype=np.int32)
    attributes: dict[str, Any] = {"format": block_format, "columns": columns}
    (rows,) = library.run("RowLookup", {"blocks": blocks, "ids": ids}, [np.float32], **attributes)
    np.testing.assert_array_equal(rows, row_lookup(blocks, ids, **attributes))


def test_no_tokens_give_no_rows(best: Library) -> None:
    inputs: dict[str, Any] = {"blocks": np.zeros((3, 20), np.uint8), "ids": np.zeros(0, np.int32)}
    (rows,) = best.run("RowLookup", inputs, [np.float32], format="Q4_1", columns=32)
    assert rows.shape == (0, 32)


@pytest.mark.parametrize("token", [3, -1, 2**31 - 1, -(2**31)])
def test_a_token_without_a_row_is_an_error(best: Library, token: int) -> None:
    inputs: dict[str, Any] = {
        "blocks": np.zeros((3, 20), np.uint8),
        "ids": np.array([0, token], np.int32),
    }
    with pytest.raises(Exception, match=f"RowLookup: ids has {token}, there are 3 rows"):
        best.run("RowLookup", inputs, [np.float32], format="Q4_1", columns=32)
