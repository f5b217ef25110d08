"""Planes hold exactly the weights of their blocks."""

import numpy as np
import pytest

from runtime.ops.gpu.layouts import BLOCK_FORMATS, PLANE_ALIGNMENT
from runtime.ops.gpu.planes import pack, unpack
from runtime.ops.library import block_formats
from runtime.ops.reference import dequantize_rows
from tests.block_formats import PLAIN_FORMATS, raw_weights
from tests.block_formats import weights as quantized_weights

ROWS, COLUMNS = 5, 512


def any_weights(random: np.random.Generator, block_format: str) -> np.ndarray:
    make = quantized_weights if block_format in PLAIN_FORMATS else raw_weights
    return make(random, block_format, ROWS, COLUMNS)


def test_there_are_planes_for_every_format_that_the_cpu_multiplies() -> None:
    assert set(BLOCK_FORMATS) == block_formats()


@pytest.mark.parametrize("block_format", BLOCK_FORMATS)
def test_planes_hold_the_weights_exactly(random: np.random.Generator, block_format: str) -> None:
    blocks = any_weights(random, block_format)
    expected = dequantize_rows(blocks, block_format, COLUMNS)
    np.testing.assert_array_equal(
        unpack(block_format, pack(block_format, blocks), COLUMNS), expected
    )


@pytest.mark.parametrize("block_format", BLOCK_FORMATS)
def test_planes_have_the_sizes_and_places_of_their_layout(
    random: np.random.Generator, block_format: str
) -> None:
    planes = pack(block_format, any_weights(random, block_format))
    layout = BLOCK_FORMATS[block_format].layout
    stored = (planes.codes, planes.high, planes.subs, planes.units)
    assert tuple(plane.size for plane in stored) == layout.plane_bytes(ROWS, COLUMNS)
    offsets = layout.plane_offsets(ROWS, COLUMNS)
    assert all(offset % PLANE_ALIGNMENT == 0 for offset in offsets)
    buffer = planes.buffer(block_format, COLUMNS)
    for plane, at in zip(stored, offsets, strict=False):
        np.testing.assert_array_equal(buffer[at : at + plane.size], plane.reshape(-1))


def test_columns_that_are_not_whole_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="not whole blocks"):
        BLOCK_FORMATS["Q4_K"].layout.plane_bytes(1, 128)
