"""The structure check: is a graph valid, and does it read the GGUF as the GGUF is laid out."""

import hashlib
from collections.abc import Iterator

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from pipelines.conversion.graph import IR_VERSION, OPSET
from pipelines.conversion.nodes import attributes
from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.subject import Subject
from runtime.gguf import GGUFFile, TensorInfo
from runtime.interface import INPUTS, OUTPUTS, STATE_INPUTS, STATE_OUTPUTS
from runtime.manifest import GRAPH_NAME, GRAPH_VERSION
from runtime.ops.schema import DOMAIN, DOMAIN_VERSION, OPERATORS


def check_structure(subject: Subject) -> Outcome:
    """The graph is the one that was written, valid ONNX, and reads every tensor at its place."""
    made_by = subject.manifest.versions.get("graph")
    if made_by != GRAPH_VERSION:
        raise CheckFailed(f"the graph has version {made_by}, this build runs {GRAPH_VERSION}")
    graph = subject.stored.SerializeToString(deterministic=True)
    if hashlib.sha256(graph).hexdigest() != subject.manifest.graph_sha256:
        raise CheckFailed(f"{GRAPH_NAME} is not the one that was written")
    check_graph(subject.stored)
    check_weights(subject.stored, subject.file, subject.spec.folded)
    operators = len(subject.stored.graph.node)
    return Outcome(
        f"{operators} operators read all {len(subject.file.tensors)} tensors in place",
        {"operators": operators, "tensors": len(subject.file.tensors), "bytes": len(graph)},
    )


def check_graph(model: ModelProto) -> None:
    """Raise CheckFailed unless this is a step graph that ONNX's own checker accepts."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET, DOMAIN: DOMAIN_VERSION} or model.ir_version != IR_VERSION:
        raise CheckFailed(f"operator sets are {opsets} at ir_version {model.ir_version}")
    for node in model.graph.node:
        _check_operator(node)
    inputs = tuple(value.name for value in model.graph.input)
    outputs = tuple(value.name for value in model.graph.output)
    with_states = (*INPUTS, *STATE_INPUTS), (*OUTPUTS, *STATE_OUTPUTS)
    if (inputs, outputs) not in ((INPUTS, OUTPUTS), with_states):
        raise CheckFailed(f"inputs are {inputs} and outputs {outputs}")
    try:
        onnx.checker.check_model(_with_weights_as_inputs(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"the ONNX checker refuses the graph: {error}") from None


def _check_operator(node: NodeProto) -> None:
    """Raise CheckFailed for a node of our domain that its operator's schema does not allow."""
    if node.domain != DOMAIN:
        return
    if node.op_type not in OPERATORS:
        raise CheckFailed(f"{node.name} is a {node.op_type}, which is no operator of {DOMAIN}")
    operator = OPERATORS[node.op_type]
    try:
        operator.by_port(list(node.input))
        operator.by_port(list(node.output), outputs=True)
        operator.expect_attributes(attributes(node))
    except ValueError as error:
        raise CheckFailed(f"{node.name}: {error}") from None


def check_weights(model: ModelProto, file: GGUFFile, folded: frozenset[str]) -> None:
    """Raise CheckFailed unless every tensor is read, at its offset and in its format.

    `folded` are tensors that conversion used up.
    """
    external = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    unread = sorted(file.tensors.keys() - external.keys() - folded)
    if unread:
        raise CheckFailed(f"no operator reads tensor {unread[0]} of the GGUF")
    for name, tensor in external.items():
        info = file.tensors.get(name)
        if info is None:
            raise CheckFailed(f"the graph reads tensor {name}, which the GGUF does not have")
        _check_place(tensor, info, file.paths[info.piece].name)
    for node in model.graph.node:
        for name, format, columns in _matrices(node):
            if name in external:
                _check_format(node.name, format, columns, file.tensors[name])


def _check_place(tensor: TensorProto, info: TensorInfo, location: str) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    expected = {"location": location, "offset": str(info.offset), "length": str(info.size)}
    if place != expected:
        raise CheckFailed(f"tensor {info.name} is read at {place}, the GGUF has it at {expected}")
    if tensor.data_type == TensorProto.UINT8:
        fits = tuple(tensor.dims) == (info.rows, info.row_bytes)
    else:
        fits = (tensor.data_type, info.format) == (TensorProto.FLOAT, "F32")
        fits = fits and tuple(tensor.dims) == info.shape
    if not fits:
        raise CheckFailed(f"tensor {info.name} is read in the wrong type or shape")


def _matrices(node: NodeProto) -> Iterator[tuple[str, str, int]]:
    """The matrices that a node reads: name, and the format and columns it reads them with."""
    if node.domain != DOMAIN:
        return
    operator, given = OPERATORS[node.op_type], attributes(node)
    read = operator.by_port(list(node.input))
    names = [read[port.name] for port in operator.inputs if port.is_matrix and port.name in read]
    formats = given["formats"].split() if "formats" in given else names and [given["format"]]
    for index, (name, format) in enumerate(zip(names, formats, strict=True)):
        # The way back of experts reads what the others gave.
        is_inner = node.op_type == "MixtureOfExperts" and index == len(names) - 1
        yield name, format, given["hidden" if is_inner else "columns"]


def _check_format(node: str, format: str, columns: int, info: TensorInfo) -> None:
    if (format, columns) != (info.format, info.columns):
        raise CheckFailed(
            f"{node} reads {info.name} as {format} with {columns} columns, "
            f"it is {info.format} with {info.columns}"
        )


def _with_weights_as_inputs(model: ModelProto) -> ModelProto:
    """Return a standalone copy: the checker refuses external data behind a hard link."""
    alone = ModelProto()
    alone.CopyFrom(model)
    del alone.graph.initializer[:]
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            alone.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        else:
            alone.graph.initializer.append(tensor)
    return alone
