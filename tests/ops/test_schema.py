"""Every place that has an operator's inputs, outputs or attributes has those of its schema."""

import ctypes
import re
import types
from collections import defaultdict
from inspect import Parameter, signature
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import onnxruntime
import pytest

from runtime.ops.library import library_path, native_library
from runtime.ops.operator import Attribute, Operator, Port
from runtime.ops.operators_page import page
from runtime.ops.reference import DEFINITIONS
from runtime.ops.schema import OPERATORS
from tests.ops.conftest import Library

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "runtime" / "ops" / "native"
PROVIDERS = ("CPUExecutionProvider", "ROCMExecutionProvider", "ROCmForgeExecutionProvider")

every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))


def test_the_page_of_operators_is_made_of_the_schema() -> None:
    assert (ROOT / "docs" / "operators.md").read_text() == page()


def array_type(hint: Any) -> tuple[str, bool]:
    """The element type of an array's annotation, and whether it may be None."""
    choices = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    (array,) = [each for each in choices if each is not type(None)]
    dtype = get_args(get_args(array)[1])[0]
    return np.dtype(dtype).name, len(choices) > 1


def result_types(hint: Any, outputs: tuple[Port, ...]) -> list[str]:
    """The element type of each result; of a tuple of any length as many as there are outputs."""
    each = list(get_args(hint)) if get_origin(hint) is tuple else [hint]
    if each[-1] is ...:
        each = each[:1] * len(outputs)
    return [array_type(one)[0] for one in each]


@every_operator
def test_the_definition_in_numpy_has_the_inputs_outputs_and_attributes(operator: Operator) -> None:
    definition = DEFINITIONS[operator.name]
    hints = get_type_hints(definition)
    taken = signature(definition).parameters.values()
    inputs = {each.name: hints[each.name] for each in taken if each.kind != Parameter.KEYWORD_ONLY}
    assert [(name, *array_type(hint)) for name, hint in inputs.items()] == [
        (port.name, port.dtype, port.optional) for port in operator.inputs
    ]
    assert result_types(hints["return"], operator.outputs) == [
        port.dtype for port in operator.outputs
    ]
    # How a definition dequantizes and multiplies, no attributes.
    given = {
        each.name: each
        for each in taken
        if each.kind == Parameter.KEYWORD_ONLY and each.name not in {"weights", "multiply"}
    }
    assert given.keys() == {attribute.name for attribute in operator.attributes}
    for attribute in operator.attributes:
        hint, default = hints[attribute.name], given[attribute.name].default
        assert default == (Parameter.empty if attribute.default is None else attribute.default)
        if get_origin(hint) is Literal:
            assert (attribute.type, attribute.choices) == (str, get_args(hint))
        else:
            assert (attribute.type, attribute.choices) == (hint, ())


def test_there_is_a_definition_of_each_operator() -> None:
    assert DEFINITIONS.keys() == OPERATORS.keys()


def registered() -> dict[str, dict[str, list[list[str]]]]:
    """Lines of words by provider and operator, as the library tells them to ONNX Runtime."""
    describe = native_library().rocmforge_operator
    describe.argtypes = [ctypes.c_int64]
    describe.restype = ctypes.c_char_p
    described: dict[str, dict[str, list[list[str]]]] = defaultdict(dict)
    for text in takewhile(lambda each: each is not None, map(describe, count())):
        (_, name, provider), *lines = (line.split() for line in text.decode().splitlines())
        described[provider][name] = lines
    return described


def declared(operator: Operator, provider: str) -> list[list[str]]:
    """The lines that the schema wants."""

    def line(kind: str, port: Port) -> list[str]:
        return [kind, "optional" if port.optional else "required", port.dtype, port.name]

    def place(port: Port) -> str:
        return "host" if port.is_matrix and provider != PROVIDERS[0] else "provider"

    lines = [[*line("input", port), place(port)] for port in operator.inputs]
    lines += [line("output", port) for port in operator.outputs]
    if operator.alias is not None:
        inputs, outputs = operator.inputs, operator.outputs
        index = [port.name for port in inputs].index(operator.alias[0])
        lines.append(
            ["alias", str(index), str([port.name for port in outputs].index(operator.alias[1]))]
        )
    return lines


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_registration_is_that_of_the_schema(provider: str) -> None:
    assert registered()[provider] == {
        name: declared(operator, provider)
        for name, operator in OPERATORS.items()
        if operator.on_gpu or provider == PROVIDERS[0]
    }
    assert registered().keys() == set(PROVIDERS)


READ = re.compile(r"attributes\.(integer|real|text)(_or)?\(\"(\w+)\"(?:, ([^,()]+))?")
KINDS = {"integer": int, "real": float, "text": str}


def test_every_attribute_that_a_kernel_reads_is_in_the_schema() -> None:
    known = {
        (each.name, each.type, each.default)
        for operator in OPERATORS.values()
        for each in operator.attributes
    }
    files = [*NATIVE.glob("operators/*"), *NATIVE.glob("hip/**/*.cc"), *NATIVE.glob("hip/**/*.h")]
    read = [each for path in files for each in READ.findall(path.read_text())]
    assert {name for _, _, name, _ in read} == {name for name, _, _ in known}
    for kind, has_default, name, default in read:
        type_ = KINDS[kind]
        value = type_(default.strip('"').rstrip("f")) if has_default else None
        assert (name, type_, value) in known


EXAMPLES: dict[str, Any] = {
    "format": "F32",
    "formats": "F32 F32",
    "rows": "4 4",
    "columns": 32,
    "hidden": 32,
}
ELEMENTS = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "uint8": np.uint8}


def example(attribute: Attribute, operator: Operator) -> Any:
    """A value that the attribute may have."""
    if operator.name == "MixtureOfExperts" and attribute.name == "formats":
        return "F32 F32 F32"
    if attribute.choices:
        return attribute.choices[-1]
    if isinstance(EXAMPLES.get(attribute.name), attribute.type):
        return EXAMPLES[attribute.name]
    return attribute.type(1)


def session_of(operator: Operator, attributes: dict[str, Any]) -> onnxruntime.InferenceSession:
    """A model of that one node, with every input and output, whose kernel ONNX Runtime makes."""
    inputs = {port.name: np.zeros(1, ELEMENTS[port.dtype]) for port in operator.inputs}
    library = Library(library_path(), "best")
    return library.session(
        operator.name,
        inputs,
        [ELEMENTS[port.dtype] for port in operator.outputs],
        **attributes,
    )


@every_operator
def test_the_cpu_kernel_is_made_of_the_attributes_and_needs_those(operator: Operator) -> None:
    whole = {each.name: example(each, operator) for each in operator.attributes}
    operator.expect_attributes(whole)
    session_of(operator, whole)
    for attribute in operator.attributes:
        rest = {name: value for name, value in whole.items() if name != attribute.name}
        if attribute.default is not None:
            session_of(operator, rest)
            continue
        with pytest.raises(ValueError, match=attribute.name):
            operator.expect_attributes(rest)
        with pytest.raises(Exception, match=f"{operator.name}: {attribute.name} "):
            session_of(operator, rest)


@every_operator
def test_the_cpu_kernel_refuses_what_the_schema_does(operator: Operator) -> None:
    whole = {each.name: example(each, operator) for each in operator.attributes}
    for attribute in operator.attributes:
        wrong: list[Any] = ["no such"] if attribute.choices else []
        wrong += [] if attribute.minimum is None else [attribute.minimum - 1]
        for value in wrong:
            changed = {**whole, attribute.name: value}
            with pytest.raises(ValueError, match=attribute.name):
                operator.expect_attributes(changed)
            with pytest.raises(Exception, match=f"{operator.name}: {attribute.name} "):
                session_of(operator, changed)


def test_a_node_of_other_ports_or_attributes_is_refused() -> None:
    product = OPERATORS["QuantMatMul"]
    assert product.in_order({"blocks": "w", "x": "h"}) == ["h", "w"]
    assert product.by_port(["h", "w", ""]) == {"x": "h", "blocks": "w"}
    for names in (["h"], ["h", ""], ["h", "w", "b", "more"]):
        with pytest.raises(ValueError, match="QuantMatMul"):
            product.by_port(names)
    with pytest.raises(ValueError, match="has no weights"):
        product.in_order({"x": "h", "weights": "w"})
    for wrong in ({"format": b"F32"}, {"columns": 32.0}, {"columns": True}, {"scale": 1.0}):
        with pytest.raises(ValueError, match="QuantMatMul"):
            product.expect_attributes({"format": "F32", "columns": 32, **wrong})
