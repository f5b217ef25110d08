"""Weights on their way to the GPU: repacked into planes, once for each matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.device import select_device
from runtime.ops.library import library_path
from runtime.ops.reference import DOMAIN, dequantize_rows
from runtime.session import ROCM_PROVIDER
from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS, raw_weights
from tests.rocm.stub_device import StubDevice

ROWS, COLUMNS = 9, 512


def look_up(blocks: np.ndarray, ids: np.ndarray, nodes: int = 1, **attributes: Any) -> np.ndarray:
    """Rows of a constant matrix, by as many nodes as are asked for; the result of the last."""
    select_device("rocm")  # hands the kernels to the library
    graph = helper.make_graph(
        [
            helper.make_node("RowLookup", ["w", "ids"], [f"y{i}"], domain=DOMAIN, **attributes)
            for i in range(nodes)
        ],
        "look_up",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, [None])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(nodes)],
        [numpy_helper.from_array(blocks, "w")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx.ModelProto.SerializeToString(model), options, [ROCM_PROVIDER]
    )
    session.disable_fallback()
    result: np.ndarray = session.run(None, {"ids": ids})[-1]
    return result


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
