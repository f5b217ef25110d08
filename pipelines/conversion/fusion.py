"""Rewrites a graph so that operators which only feed each other are computed as one.

RMSNorm and the products of its result become NormQuantMatMul; where two of them only feed a
GatedActivation, that too. The fused operator gives the bits that the operators apart give.
"""

from collections import defaultdict
from typing import Any

from onnx import ModelProto, NodeProto, helper

MOST_PRODUCTS = 3


def fuse(model: ModelProto, domain: str) -> None:
    """Fuse what can be fused, in place. `domain` is that of our operators."""
    graph = model.graph
    before = list(graph.node)  # kept, since nodes are told apart by identity
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
        replaced[id(norm)] = _fused(norm, products, gate, domain)
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
    """Whether the norm is over whole rows and its result goes into one to three products only."""
    return (
        0 < len(products) <= MOST_PRODUCTS
        and norm.output[0] not in outputs
        and all(
            node.op_type == "QuantMatMul"
            and node.input[0] == norm.output[0]
            and _attributes(node)["columns"] == widths.get(norm.input[1])
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


def _fused(
    norm: NodeProto, products: list[NodeProto], gate: NodeProto | None, domain: str
) -> NodeProto:
    """One node that stands where the norm stood; it is called as its first output."""
    inputs = [*norm.input, ""][:3]
    for product in products:
        inputs += [*product.input[1:], ""][:2]
    while not inputs[-1]:
        inputs.pop()
    total = norm.output[1] if len(norm.output) > 1 else f"{norm.output[0]}.residual"
    if gate is not None:
        outputs = [gate.output[0], total]
    else:
        outputs = [products[0].output[0], total, *(each.output[0] for each in products[1:])]
    attributes = [_attributes(product) for product in products]
    node = helper.make_node(
        "NormQuantMatMul",
        inputs,
        outputs,
        outputs[0],
        domain=domain,
        epsilon=_attributes(norm)["epsilon"],
        columns=attributes[0]["columns"],
        formats=" ".join(each["format"].decode() for each in attributes),
        rows=" ".join(str(each["rows"]) for each in attributes),
    )
    if gate is not None:
        activation = _attributes(gate)["activation"].decode()
        node.attribute.append(helper.make_attribute("activation", activation))
    return node


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
