"""Models of one operator, run by the GPU's provider on the stub."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from runtime.device import open_session, select_device
from runtime.ops.library import library_path
from runtime.ops.schema import DOMAIN


def run_nodes(
    operator: str,
    inputs: dict[str, np.ndarray],
    constants: dict[str, np.ndarray],
    order: list[str],
    nodes: int = 1,
    domain: str = DOMAIN,
    **attributes: Any,
) -> np.ndarray:
    """The output of the last of as many nodes as are asked for, that all read `order`."""
    gpu = select_device("rocm").gpu  # hands the kernels to the library
    assert gpu is not None
    graph = helper.make_graph(
        [
            helper.make_node(operator, order, [f"y{i}"], domain=domain, **attributes)
            for i in range(nodes)
        ],
        "nodes",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
            )
            for name, array in inputs.items()
        ],
        [
            helper.make_tensor_value_info(f"y{i}", onnx.TensorProto.FLOAT, None)
            for i in range(nodes)
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(onnx.ModelProto.SerializeToString(model), options, gpu.provider)
    session.disable_fallback()
    result: np.ndarray = session.run(None, inputs)[-1]
    return result
