"""Builds the nodes and initializers of a graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipelines.conversion.architectures import Linear
from runtime.gguf import TensorInfo
from runtime.ops.schema import DOMAIN, OPERATORS

Value = str | int | float


def operator_node(
    kind: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **attributes: Value
) -> NodeProto:
    """Return a node of a custom operator, named as its first output.

    inputs, outputs: names of values by the names that the operator's schema has. Raises ValueError
    for what the schema does not allow.
    """
    operator = OPERATORS[kind]
    operator.expect_attributes(attributes)
    results = operator.in_order(outputs, outputs=True)
    node = helper.make_node(kind, operator.in_order(inputs), results, results[0], domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return node


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name; strings are str."""
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in given.items()
    }


def named_inputs(node: NodeProto) -> dict[str, str]:
    """Return the inputs of a node of a custom operator, by the names in its schema."""
    return OPERATORS[node.op_type].by_port(list(node.input))


class Nodes:
    """Collects nodes and initializers in order. Used by one thread for one model."""

    def __init__(self, locations: Sequence[str], epsilon: float) -> None:
        """locations: names of the files with the weights; epsilon: of all norms."""
        self.locations = tuple(locations)
        self.epsilon = epsilon
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def linear(self, name: str, linear: Linear, hidden: str) -> str:
        """Write a product with a matrix, and its bias."""
        info = linear.weight
        inputs = {"x": hidden, "blocks": self.blocks(info)}
        product = name
        if linear.scale is not None:
            product = f"{name}.product"
        elif linear.bias is not None:
            inputs["bias"] = self.vector(linear.bias)
        self.node(
            "QuantMatMul",
            inputs,
            {"y": product},
            format=info.format,
            columns=info.columns,
            rows=info.rows,
        )
        if linear.scale is None:
            return name
        scale = self.vector(linear.scale)
        if linear.bias is None:
            return self.plain("Mul", name, product, scale)
        scaled = self.plain("Mul", f"{name}.factor", product, scale)
        return self.plain("Add", name, scaled, self.vector(linear.bias))

    def rms_norm(self, name: str, hidden: str, weight: str, residual: str = "") -> str:
        """Write an RMSNorm of hidden + residual; with a residual the sum is a second output."""
        return self.normed("RMSNorm", name, hidden, weight, residual)

    def normed(self, kind: str, name: str, hidden: str, weight: str, residual: str) -> str:
        """Write an RMSNorm or LayerNorm of hidden + residual; the sum is `name`.residual."""
        inputs = {"x": hidden, "weight": weight, "residual": residual}
        outputs = {"y": name, "sum": f"{name}.residual" if residual else ""}
        self.node(kind, inputs, outputs, epsilon=self.epsilon)
        return name

    def scaled(self, name: str, factor: float) -> str:
        """Write `name` times a factor; return the value itself if that is 1."""
        if factor == 1:
            return name
        return self.plain("Mul", f"{name}.scaled", name, self.number(factor))

    def softplus(self, name: str, hidden: str) -> str:
        """Write ln(1 + e^x), with the same bits for a value in any company.

        It is max(x, 0) + 2 atanh(z), with z = e / (2 + e) and e = exp(-|x|): the series of atanh
        is exact enough after its eighth term, since z is at most a third.
        """
        power = self.plain("Neg", f"{name}.below", self.plain("Abs", f"{name}.size", hidden))
        power = self.plain("Exp", f"{name}.power", power)
        sum_ = self.plain("Add", f"{name}.sum", power, self.number(2.0))
        ratio = self.plain("Div", f"{name}.ratio", power, sum_)
        square = self.plain("Mul", f"{name}.square", ratio, ratio)
        series = self.plain("Mul", f"{name}.15", square, self.number(2 / 15))
        for term in (13, 11, 9, 7, 5, 3, 1):
            factor = self.number(2 / term)
            series = self.plain("Add", f"{name}.{term}.sum", series, factor)
            times = square if term > 1 else ratio
            series = self.plain("Mul", f"{name}.{term}", series, times)
        positive = self.plain("Relu", f"{name}.positive", hidden)
        return self.plain("Add", name, positive, series)

    def grouped(self, name: str, linear: Linear, hidden: str, groups: int) -> str:
        """Write a product of each group of columns with its own matrix of `linear`."""
        info = linear.weight
        self.node(
            "GroupedQuantMatMul",
            {"x": hidden, "blocks": self.blocks(info)},
            {"y": name},
            format=info.format,
            columns=info.columns,
            groups=groups,
        )
        return name

    def split(
        self, name: str, parts: tuple[str, ...], widths: tuple[int, ...], *, axis: int = 1
    ) -> None:
        """Split the columns of a product. A fused matrix stays whole: one pass reads it."""
        sizes = self.stored(f"{'_'.join(map(str, widths))}.columns", np.array(widths, np.int64))
        self.nodes.append(helper.make_node("Split", [name, sizes], parts, parts[0], axis=axis))

    def joined(self, name: str, *parts: str, axis: int) -> str:
        """Concatenate values along an axis."""
        self.nodes.append(helper.make_node("Concat", parts, [name], name, axis=axis))
        return name

    def reshaped(self, name: str, hidden: str, *widths: int) -> str:
        """Reshape the rows of tokens: [T, ...] to [T, *widths]."""
        shape = self.stored(f"{'_'.join(map(str, widths))}.shape", np.array([0, *widths], np.int64))
        return self.plain("Reshape", name, hidden, shape)

    def reshaped_rows(self, name: str, hidden: str, *widths: int) -> str:
        """Rows put together: [T * heads, C] as [T, heads, C]."""
        shape = np.array([-1, *widths], np.int64)
        stored = self.stored(f"{'_'.join(map(str, widths))}.rows", shape)
        return self.plain("Reshape", name, hidden, stored)

    def repeated(self, name: str, hidden: str, heads: int) -> str:
        """Repeat [T, 1, C] for each head: [T, heads, C]."""
        shape = self.stored(f"{heads}.heads", np.array([1, heads, 1], np.int64))
        return self.plain("Expand", name, hidden, shape)

    def widened(self, name: str, hidden: str, columns: int) -> str:
        """Pad [T, heads, C] with columns of zeros."""
        if columns == 0:
            return hidden
        pads = self.stored(f"{columns}.columns_behind", np.array([0] * 5 + [columns], np.int64))
        return self.plain("Pad", name, hidden, pads)

    def cast(self, name: str, hidden: str) -> str:
        """Convert integers to float32."""
        node = helper.make_node("Cast", [hidden], [name], name, to=TensorProto.FLOAT)
        self.nodes.append(node)
        return name

    def ones_like(self, name: str) -> str:
        """Write ones in the shape of another value, float32."""
        one = self.number(1.0)
        return self.plain("Clip", f"{name}.ones", name, one, one)

    def plain(self, kind: str, name: str, *inputs: str) -> str:
        """Write an operator of ONNX itself, without attributes."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name))
        return name

    def number(self, value: float) -> str:
        """Return a scalar initializer."""
        return self.stored(f"number.{float(value)!r}", np.float32(value))

    def stored(self, name: str, values: np.ndarray | np.float32) -> str:
        """Return a small initializer that is stored in the graph itself."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def node(
        self, kind: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **attributes: Value
    ) -> None:
        """Append a custom operator: `operator_node`."""
        self.nodes.append(operator_node(kind, inputs, outputs, **attributes))

    def blocks(self, info: TensorInfo) -> str:
        """Return the initializer of a matrix as it is stored: uint8 [rows, row_bytes]."""
        return self.external(info, TensorProto.UINT8, (info.rows, info.row_bytes))

    def vector(self, info: TensorInfo) -> str:
        """Return the initializer of a vector: float32."""
        return self.external(info, TensorProto.FLOAT, info.shape)

    def shaped(self, info: TensorInfo, *shape: int) -> str:
        """Return a float32 array of the GGUF in another shape; one length may be -1."""
        if len(info.shape) == len(shape):
            return self.vector(info)
        wanted = self.stored(f"{'_'.join(map(str, shape))}.stored", np.array(shape, np.int64))
        return self.plain("Reshape", f"{info.name}.shaped", self.vector(info), wanted)

    def external(self, info: TensorInfo, kind: int, shape: tuple[int, ...]) -> str:
        """Return the initializer for a tensor of the GGUF; it is created once."""
        if info.name not in self.initializers:
            tensor = TensorProto(
                name=info.name,
                data_type=kind,
                dims=shape,
                data_location=TensorProto.EXTERNAL,
            )
            place = {
                "location": self.locations[info.piece],
                "offset": info.offset,
                "length": info.size,
            }
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self.initializers[info.name] = tensor
        return info.name
