"""Compares the computed model with the exact one, operator by operator and layer by layer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from pipelines.validation.comparison import largest_row_error, relative_error
from pipelines.validation.reference import ReferenceModel, Values, empty_pools, feeds
from runtime.gguf import GGUFFile
from runtime.interface import LOGITS, POOLS, is_pool, pool_of
from runtime.manifest import Manifest
from runtime.ops.library import library_path
from runtime.packed_weights import PackedArrays
from runtime.session import WEIGHTS_FOLDER_OPTION
from runtime.settings import Settings
from runtime.step import StepInputs

LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class OperatorError:
    """How far one operator is from its definition. Immutable."""

    name: str
    """With its kind and the matrix whose product is the furthest off."""
    layer: int | None
    """None for operators before and after the layers."""
    alone: float
    """Relative error given the same inputs: that of this operator alone."""
    row: int
    """The row of its matrix, so the column of its output, that is the furthest off."""
    row_error: float
    """Relative error of that column alone."""
    inherited: float
    """Relative error against the exact model: that of this operator and all before it."""


def operator_errors(
    exact: ReferenceModel,
    stored: ModelProto,
    manifest: Manifest,
    file: GGUFFile,
    inputs: StepInputs,
    beginning: StepInputs,
    *,
    packed: PackedArrays,
    settings: Settings,
) -> tuple[NDArray[np.float32], list[OperatorError]]:
    """The exact logits of a step, and the error of each operator of the stored graph.

    beginning: a step of the first tokens of `inputs`; packed: matrices that replace those of the
    GGUF. Runs the stored graph once over these, with
    all its values and the same packed weights as a session, and the exact model once over all.
    Operators of the exact graph whose values the stored one lacks are left out.
    """
    computed = _computed_values(
        stored, manifest, file, beginning, exact.pool_shape, packed, settings
    )
    errors: list[OperatorError] = []
    logits: NDArray[np.float32] | None = None
    for node, truth, alone in exact.walk(inputs, beside=computed):
        logits = truth.get(LOGITS, logits)
        if any(name in computed for name in truth):
            errors.append(_error(node, file, truth, alone, computed))
    assert logits is not None
    return logits, errors


def _error(
    node: NodeProto, file: GGUFFile, truth: Values, alone: Values, computed: Values
) -> OperatorError:
    worst, row, row_error, inherited = -1.0, 0, -1.0, 0.0
    furthest = ""
    for name, value in alone.items():
        if name not in computed:
            continue
        error = relative_error(value, computed[name])
        worst = error if not error <= worst else worst
        if is_pool(name):
            furthest = furthest or name
            continue
        beginning = truth[name][tuple(map(slice, value.shape))]
        inherited = max(inherited, relative_error(beginning, computed[name]))
        at, its_error = largest_row_error(value, computed[name])
        if not its_error <= row_error:
            row, row_error, furthest = at, its_error, name
    layer = LAYER.search(node.name)
    return OperatorError(
        name=_describe(node, file, furthest),
        layer=int(layer[1]) if layer else None,
        alone=worst,
        row=row,
        row_error=row_error,
        inherited=inherited,
    )


def _describe(node: NodeProto, file: GGUFFile, output: str) -> str:
    """Return name and kind of an operator, and the matrix that produces this output."""
    read = [file.tensors[name] for name in node.input if name in file.tensors]
    matrices = [info for info in read if len(info.shape) > 1]
    place = list(node.output).index(output)
    if node.op_type == "NormQuantMatMul" and len(matrices) == len(node.output) - 1:
        # Outputs are the first product, the residual sum and the other products.
        matrices = [matrices[max(0, place - 1)]]
    named = ", ".join(f"{info.name} in {info.format}" for info in matrices or read[:1])
    return f"{node.name} ({node.op_type}{', ' + named if named else ''})"


def _computed_values(
    stored: ModelProto,
    manifest: Manifest,
    file: GGUFFile,
    inputs: StepInputs,
    pool_shape: tuple[int, int],
    packed: PackedArrays,
    settings: Settings,
) -> Values:
    """Run one step on empty pools and give every value of the graph by its name.

    The pools between the layers are one array, so each has the content it has after the step.
    """
    watched = ModelProto()
    watched.CopyFrom(stored)
    names = list(_watchable(stored))
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.thread_count
    options.add_session_config_entry(WEIGHTS_FOLDER_OPTION, str(file.path.parent))
    options.register_custom_ops_library(str(library_path()))
    kept = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in packed.items()}
    for name, value in kept.items():
        options.add_initializer(name, value)
    session = ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    pools = empty_pools(manifest.page_layout, *pool_shape)
    binding = session.io_binding()
    values = feeds(inputs, pools)
    for name, array in values.items():
        binding.bind_cpu_input(name, array)
    for name, pool in pools.items():
        shared = ort.OrtValue.ortvalue_from_numpy(pool)
        binding.bind_ortvalue_input(name, shared)
        binding.bind_ortvalue_output(POOLS[name], shared)
    names = [LOGITS, *names]
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    # The outputs are views on memory of the binding; the pool is ours.
    outputs = dict(
        zip([*(POOLS[name] for name in pools), *names], binding.get_outputs(), strict=True)
    )
    values |= {name: np.array(outputs[name].numpy()) for name in names}
    written = {name for node in stored.graph.node for name in node.output if is_pool(name)}
    return values | {name: pools[pool_of(name)] for name in written}


def _watchable(model: ModelProto) -> Iterator[str]:
    """Return the values between operators, without the pools, each of which is one array."""
    for node in model.graph.node:
        for name in node.output:
            if name and not is_pool(name) and name != LOGITS:
                yield name
