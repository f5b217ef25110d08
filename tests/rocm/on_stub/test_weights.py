"""Weights on their way to the GPU: repacked into planes, once for each matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.ops.reference import dequantize_rows
from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS, raw_weights
from tests.rocm.on_stub.nodes import run_nodes
from tests.rocm.stub_device import StubDevice

ROWS, COLUMNS = 9, 512


def look_up(blocks: np.ndarray, ids: np.ndarray, nodes: int = 1, **attributes: Any) -> np.ndarray:
    """Rows of a constant matrix."""
    inputs, constants = {"ids": ids}, {"w": blocks}
    return run_nodes("RowLookup", inputs, constants, ["w", "ids"], nodes, **attributes)


@pytest.mark.parametrize("block_format", [*PLAIN_FORMATS, *INTEGER_FORMATS])
def test_planes_stand_for_the_weights_of_the_blocks(device: StubDevice, block_format: str) -> None:
    blocks = raw_weights(np.random.default_rng(3), block_format, ROWS, COLUMNS)
    ids = np.array([8, 0, 3, 3], np.int32)
    found = look_up(blocks, ids, format=block_format, columns=COLUMNS)
    expected = dequantize_rows(blocks, block_format, COLUMNS)[ids]
    finite = np.abs(expected[np.isfinite(expected)])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * finite.max())


def test_a_matrix_that_two_operators_read_is_uploaded_once(device: StubDevice) -> None:
    blocks = np.random.default_rng(3).integers(0, 255, (4096, 4 * 512), np.uint8)
    ids = np.array([1], np.int32)
    before = device.count("bytes to device")
    look_up(blocks, ids, nodes=2, format="F32", columns=512)
    assert blocks.nbytes <= device.count("bytes to device") - before < 1.1 * blocks.nbytes


def test_columns_that_are_not_whole_parts_are_refused(device: StubDevice) -> None:
    blocks = np.zeros((4, 4 * 40), np.uint8)
    with pytest.raises(Exception, match="columns are 40, the GPU kernels need multiples of 32"):
        look_up(blocks, np.array([1], np.int32), format="F32", columns=40)


def test_kernels_that_take_other_arguments_are_refused(device: StubDevice, kernels: Path) -> None:
    manifest = kernels / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"ids","type":"*i32"', '"ids","type":"*i64"'))
    with pytest.raises(Exception, match=r"row_lookup\.f32 was compiled with other arguments"):
        look_up(np.zeros((4, 128), np.uint8), np.array([1], np.int32), format="F32", columns=32)
