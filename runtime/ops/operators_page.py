"""The page docs/operators.md, made of the schema: `python -m runtime.ops.operators_page`."""

from collections.abc import Iterator

from runtime.ops.operator import Attribute, Operator, Port
from runtime.ops.schema import DOMAIN, DOMAIN_VERSION, OPERATORS

HEAD = f"""# Operators

The graph of a prepared model is made of a few plain ONNX operators and of these, of the domain
`{DOMAIN}`, version {DOMAIN_VERSION}. This page is made of their schema, runtime/ops/schema.py
(`python -m runtime.ops.operators_page > docs/operators.md`); their definitions in NumPy are in
runtime/ops/reference, the kernels for the CPU and for AMD GPUs in runtime/ops/native.

In shapes T = tokens of the step, B = rows (requests), P = columns of the page table, L = layers,
H = query heads, G = key-value heads, D = head width, C = columns (`columns`), N = rows of a matrix,
W = values of a norm's weight, R = rotated values of a head, E = experts, F = values between an
expert's matrices (`hidden`). A matrix is uint8 [N, row_bytes]: blocks of a GGML format, as they lie
in the GGUF. What is optional may be left out. Arithmetic is float32 where nothing else is said; CPU
kernels round the values that they multiply with a matrix of integers to 8 bits first
(`quantize_activations` in runtime/ops/reference/products.py).
"""


def page() -> str:
    """The whole page, in Markdown."""
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
    yield ""
    yield "| | Type | Shape | Is |"
    yield "|---|---|---|---|"
    for port in operator.inputs:
        yield _port("input", port)
    for port in operator.outputs:
        yield _port("output", port)
    yield ""
    yield "| Attribute | Type | Default | Is |"
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
