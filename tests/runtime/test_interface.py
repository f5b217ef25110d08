"""One module says what the inputs and outputs of a step graph are called."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from runtime import interface
from runtime.interface import (
    INPUTS,
    OUTPUTS,
    STATE_INPUTS,
    STATE_OUTPUTS,
    STATE_STEP_INPUTS,
    STEP_INPUTS,
    graph_inputs,
    graph_outputs,
    pool_shape,
)
from runtime.manifest import PageLayout
from runtime.step import StepInputs

ROOT = Path(__file__).parents[2]
LAYOUT = PageLayout(layers=3, kv_heads=2, head_dim=16)
# The others are words with other meanings too: names of operators' ports, and of a check.
OWN_NAMES = {"token_ids", "logit_rows", "page_pool", "page_pool_out"}


def test_a_step_has_the_arrays_of_the_graph_in_its_order() -> None:
    names = tuple(field.name for field in fields(StepInputs))
    assert names == (*STEP_INPUTS, *STATE_STEP_INPUTS)


def test_the_values_of_a_graph_have_these_names_in_order() -> None:
    assert tuple(each.name for each in graph_inputs(LAYOUT)) == INPUTS
    assert tuple(each.name for each in graph_outputs(LAYOUT, 99)) == OUTPUTS


def test_a_graph_with_states_has_their_values_behind_the_others() -> None:
    layout = PageLayout(layers=3, kv_heads=2, head_dim=16, state_values=40)
    inputs, outputs = graph_inputs(layout), graph_outputs(layout, 99)
    assert tuple(each.name for each in inputs) == (*INPUTS, *STATE_INPUTS)
    assert tuple(each.name for each in outputs) == (*OUTPUTS, *STATE_OUTPUTS)
    assert {each.shape for each in (inputs[-1], outputs[-1])} == {("slots", 40)}


def test_the_pool_of_a_graph_has_the_shape_of_the_layout() -> None:
    assert pool_shape(LAYOUT, 7, 8) == (3, 7, 2, 2, 8, 16)
    pools = (graph_inputs(LAYOUT)[-1], graph_outputs(LAYOUT, 99)[-1])
    assert {each.shape for each in pools} == {(3, "pages", 2, 2, "page_size", 16)}


@pytest.mark.parametrize("package", ["runtime", "pipelines"])
def test_no_other_module_spells_the_names(package: str) -> None:
    assert set(INPUTS) | set(OUTPUTS) > OWN_NAMES
    spelled = [
        (path.name, node.value)
        for path in (ROOT / package).rglob("*.py")
        if path != Path(interface.__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in OWN_NAMES
    ]
    assert spelled == []
