"""Rewrites a graph so that operators which only feed each other are computed as one.

RMSNorm and the products of its result become NormQuantMatMul; where two of them only feed a
GatedActivation, that too. The fused operator gives the same bits as the separate ones.
"""

from collections import defaultdict

from onnx import ModelProto, NodeProto

from pipelines.conversion.nodes import attributes, named_inputs, operator_node

MAX_PRODUCTS = 3


def fuse(model: ModelProto) -> None:
    """Fuse nodes in place."""
    graph = model.graph
    before = list(graph.node)  # kept, since nodes are compared by identity
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in before:
        for name in node.input:
            readers[name].append(node)
    outputs = {value.name for value in graph.output}
    widths = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 1}

    replaced: dict[int, NodeProto] = {}
    dropped: set[int] = set()
    for norm in before:
        products = readers[norm.output[0]]
        if norm.op_type != "RMSNorm" or not _all_products(products, norm, outputs, widths):
            continue
        gate = _gated_by(products, readers, outputs)
        replaced[id(norm)] = _fused(norm, products, gate)
        dropped |= {id(product) for product in products}
        if gate is not None:
            dropped.add(id(gate))
    after = [replaced.get(id(node), node) for node in before if id(node) not in dropped]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in after]
    del graph.node[:]
    graph.node.extend(copies)


def _all_products(
    products: list[NodeProto], norm: NodeProto, outputs: set[str], widths: dict[str, int]
) -> bool:
    """Whether the norm is over whole rows and its result is used by one to three products only."""
    return (
        0 < len(products) <= MAX_PRODUCTS
        and norm.output[0] not in outputs
        and all(
            node.op_type == "QuantMatMul"
            and node.input[0] == norm.output[0]
            and attributes(node)["columns"] == widths.get(norm.input[1])
            for node in products
        )
    )


def _gated_by(
    products: list[NodeProto], readers: dict[str, list[NodeProto]], outputs: set[str]
) -> NodeProto | None:
    """The activation that two products feed and nothing else does, gate first."""
    if len(products) != 2 or any(node.output[0] in outputs for node in products):
        return None
    names = [node.output[0] for node in products]
    feeds = [readers[name] for name in names]
    if [len(each) for each in feeds] != [1, 1] or feeds[0][0] is not feeds[1][0]:
        return None
    gate = feeds[0][0]
    if gate.op_type != "GatedActivation" or list(gate.input) != names:
        return None
    return gate


def _fused(norm: NodeProto, products: list[NodeProto], gate: NodeProto | None) -> NodeProto:
    """Return one node that replaces the norm; it has the name of its first output."""
    inputs = named_inputs(norm)
    for index, product in enumerate(products):
        given = named_inputs(product)
        inputs[f"blocks_{index}"] = given["blocks"]
        inputs[f"bias_{index}"] = given.get("bias", "")
    results = [gate.output[0]] if gate else [product.output[0] for product in products]
    outputs = {f"y_{index}": name for index, name in enumerate(results)}
    outputs["sum"] = norm.output[1] if len(norm.output) > 1 else f"{norm.output[0]}.residual"
    given_attributes = [attributes(product) for product in products]
    activation = {} if gate is None else {"activation": attributes(gate)["activation"]}
    return operator_node(
        "NormQuantMatMul",
        inputs,
        outputs,
        columns=given_attributes[0]["columns"],
        epsilon=attributes(norm)["epsilon"],
        formats=" ".join(each["format"] for each in given_attributes),
        rows=" ".join(str(each["rows"]) for each in given_attributes),
        **activation,
    )
