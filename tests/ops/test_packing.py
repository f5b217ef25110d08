"""Packed weights give the bits that the file's own rows give, on every instruction set."""

import ctypes

import numpy as np
import pytest

from runtime.ops import packing
from runtime.ops.reference import dequantize_rows
from tests.block_formats import INTEGER_FORMATS, raw_weights, whole_blocks
from tests.ops.conftest import Library
from tests.ops.test_quant_matmul import activations, multiply


def packed(library: Library, block_format: str, blocks: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [panels, blocks, bytes], by the library under test."""
    native = ctypes.CDLL(str(library.path))
    native.rocmforge_packed_block_bytes.restype = ctypes.c_int64
    native.rocmforge_panel_rows.restype = ctypes.c_int64
    panels = -(-len(blocks) // native.rocmforge_panel_rows())
    size = native.rocmforge_packed_block_bytes(block_format.encode())
    blocks_of_row = columns // whole_blocks(block_format, 1)
    target = np.full((panels, blocks_of_row, size), 0xAA, np.uint8)
    native.rocmforge_pack(
        block_format.encode(),
        ctypes.c_void_p(blocks.ctypes.data),
        ctypes.c_int64(len(blocks)),
        ctypes.c_int64(columns),
        ctypes.c_void_p(target.ctypes.data),
    )
    return target


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
@pytest.mark.parametrize("outputs", [1, 16, 67])
def test_a_product_has_the_bits_of_the_files_rows(
    library: Library, random: np.random.Generator, block_format: str, outputs: int
) -> None:
    columns = whole_blocks(block_format, 160)
    blocks = raw_weights(random, block_format, outputs, columns)
    panels = packed(library, block_format, blocks, columns)
    bias = activations(random, 1, outputs)[0]
    for rows in (1, 2, 3, 4, 9, 140):
        x = activations(random, rows, columns)
        for some_bias in (None, bias):
            y = multiply(library, x, panels, some_bias, format=block_format, rows=outputs)
            expected = multiply(library, x, blocks, some_bias, format=block_format)
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("block_format", INTEGER_FORMATS)
def test_a_packed_row_is_dequantized_exactly(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    columns = whole_blocks(block_format, 96)
    blocks = raw_weights(random, block_format, 37, columns)
    ids = np.array([36, 0, 5, 5, 17], np.int32)
    panels = packed(library, block_format, blocks, columns)
    inputs = {"blocks": panels, "ids": ids}
    (rows,) = library.run("RowLookup", inputs, [np.float32], format=block_format, columns=columns)
    np.testing.assert_array_equal(rows, dequantize_rows(blocks[ids], block_format, columns))


def test_weights_of_another_layout_are_refused(best: Library) -> None:
    x, panels = np.zeros((1, 64), np.float32), np.zeros((2, 2, 7), np.uint8)
    with pytest.raises(Exception, match="QuantMatMul: blocks has shape"):
        multiply(best, x, panels, None, format="Q4_1")


def test_more_rows_than_there_are_weights_are_refused(best: Library) -> None:
    x, blocks = np.zeros((1, 32), np.float32), np.zeros((4, 20), np.uint8)
    with pytest.raises(Exception, match="QuantMatMul: rows"):
        multiply(best, x, blocks, None, format="Q4_1", rows=5)


@pytest.mark.parametrize("block_format", ["F32", "F16", "BF16", "no format"])
def test_a_format_that_is_not_packed_has_no_packed_shape(block_format: str) -> None:
    assert packing.packed_shape(block_format, 64, 64) is None


def test_a_target_of_another_shape_is_refused(random: np.random.Generator) -> None:
    blocks = raw_weights(random, "Q8_0", 32, 64)
    with pytest.raises(ValueError, match="do not pack"):
        packing.pack("Q8_0", blocks, np.zeros((1, 2, 3), np.uint8))
