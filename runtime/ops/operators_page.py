"""Prints docs/operators.md from the schema: `python -m runtime.ops.operators_page`."""

from collections.abc import Iterator

from runtime.ops.operator import Attribute, Operator, Port
from runtime.ops.schema import DOMAIN, DOMAIN_VERSION, OPERATORS

HEAD = f"""# Operators

This page lists inputs, outputs, attributes and formula of each custom operator (domain `{DOMAIN}`,
version {DOMAIN_VERSION}); the rest of a prepared graph is plain ONNX. It is generated from the
schema, `runtime/ops/schema.py`, by `python -m runtime.ops.operators_page > docs/operators.md`. The
NumPy definitions are in `runtime/ops/reference/`, the kernels for the CPU and for AMD GPUs in
`runtime/ops/native/`.

Letters in shapes: T = tokens of the step, B = rows (requests), P = columns of the page table,
L = layers, H = query heads, G = key-value heads, D = head size, C = columns (`columns`), N = rows
of a matrix, W = size of a norm's weight, R = rotated values of a head, E = experts, F = inner size
of an expert (`hidden`), S = size of a state over all layers, K = taps of a convolution. A matrix is
uint8 [N, row_bytes]: blocks of a GGML format, as in the GGUF. Arithmetic is float32 unless stated;
CPU kernels first round the values that they multiply with a matrix of integers to 8 bits
(`quantize_activations` in `runtime/ops/reference/products.py`).
"""


def page() -> str:
    """Return the page, in Markdown."""
    return HEAD + "".join("\n" + "\n".join(_operator(each)) + "\n" for each in OPERATORS.values())


def _operator(operator: Operator) -> Iterator[str]:
    yield f"## {operator.name}"
    yield ""
    yield operator.meaning
    if operator.source:
        yield ""
        yield f"Source: {operator.source}."
    if operator.alias:
        yield ""
        yield f"`{operator.alias[1]}` is the memory of `{operator.alias[0]}`, written in place."
    if not operator.on_gpu:
        yield ""
        yield "There is no kernel for GPUs."
    yield ""
    yield "| | Type | Shape | Meaning |"
    yield "|---|---|---|---|"
    for port in operator.inputs:
        yield _port("input", port)
    for port in operator.outputs:
        yield _port("output", port)
    yield ""
    yield "| Attribute | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    for attribute in operator.attributes:
        yield _attribute(attribute)


def _port(kind: str, port: Port) -> str:
    optional = ", optional" if port.optional else ""
    return f"| {kind} `{port.name}`{optional} | {port.dtype} | {port.shape} | {port.meaning} |"


def _attribute(attribute: Attribute) -> str:
    default = "required" if attribute.default is None else f"`{attribute.default!r}`"
    meaning = attribute.meaning
    if attribute.choices:
        meaning += f" ({', '.join(choice or 'empty' for choice in attribute.choices)})"
    return f"| `{attribute.name}` | {attribute.type.__name__} | {default} | {meaning} |"


if __name__ == "__main__":
    print(page(), end="")
