"""Every value that ONNX Runtime computes inside a graph, for comparing operator by operator."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

from pipelines.reference import Values, empty_pool, feeds
from runtime.manifest import PageLayout
from runtime.ops.library import library_path
from runtime.session import WEIGHTS_FOLDER_OPTION
from runtime.step import StepInputs


def computed_values(
    model: ModelProto,
    weights: Path,
    layout: PageLayout,
    inputs: StepInputs,
    *,
    pages: int,
    page_size: int,
) -> Values:
    """Run one step on an empty pool and give every value of the graph by its name.

    The pools between the layers are one array, so each has the content it has after the step.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    names = [
        name
        for node in model.graph.node
        for name in node.output
        if name and "page_pool" not in name and name != "logits"
    ]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    options = ort.SessionOptions()
    options.add_session_config_entry(WEIGHTS_FOLDER_OPTION, str(weights.parent))
    options.register_custom_ops_library(str(library_path()))
    session = ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    pool = empty_pool(layout, pages, page_size)
    binding = session.io_binding()
    values = feeds(inputs, pool)
    for name, array in values.items():
        binding.bind_cpu_input(name, array)
    shared = ort.OrtValue.ortvalue_from_numpy(pool)
    binding.bind_ortvalue_input("page_pool", shared)
    binding.bind_ortvalue_output("page_pool_out", shared)
    names = ["logits", *names]
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    # The outputs are views on memory of the binding; the pool is ours.
    outputs = dict(zip(["page_pool_out", *names], binding.get_outputs(), strict=True))
    values |= {name: np.array(outputs[name].numpy()) for name in names}
    pools = {name for node in model.graph.node for name in node.output if "page_pool" in name}
    return values | dict.fromkeys(pools, pool)
