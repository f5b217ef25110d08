from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.ops.reference import selective_scan
from tests.ops.conftest import Library
from tests.ops.state_steps import StateStep, cut

OUTPUTS: list[npt.DTypeLike] = [np.dtype(np.float32)] * 2


def inputs_of(
    step: StateStep,
    random: np.random.Generator,
    heads: int,
    width: int,
    groups: int,
    state_size: int,
    *,
    diagonal: bool,
) -> dict[str, Any]:
    def values(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    return {
        "x": values(step.tokens, heads * width),
        "steps": values(step.tokens, heads),
        "input": values(step.tokens, groups * state_size),
        "output": values(step.tokens, groups * state_size),
        "decay": -np.abs(values(heads, state_size if diagonal else 1)),
        "skip": values(heads),
        "step_bias": None if diagonal else values(heads),
        **step.inputs(random),
    }


def attributes_of(step: StateStep, heads: int, groups: int, state_size: int) -> dict[str, Any]:
    return {"offset": step.offset, "heads": heads, "groups": groups, "state_size": state_size}


@pytest.mark.parametrize(
    ("step", "heads", "width", "groups", "state_size", "diagonal"),
    [
        (StateStep(new=(1,), width=64), 1, 8, 1, 8, False),
        (
            StateStep(new=(7, 1, 0, 12), fresh=(True, False, True), width=900, offset=71),
            *(4, 5, 2, 13, False),
        ),
        (StateStep(new=(3, 1), width=6 * 16 * 128 + 5, offset=5), 6, 16, 2, 128, False),
        (StateStep(new=(50, 2), fresh=(True,), width=24 * 16), 24, 1, 1, 16, True),
        (StateStep(new=(9, 0, 1), width=6 * 11), 3, 2, 1, 11, True),
    ],
    ids=str,
)
def test_computes_as_defined(
    library: Library, random: np.random.Generator, step, heads, width, groups, state_size, diagonal
) -> None:
    inputs = inputs_of(step, random, heads, width, groups, state_size, diagonal=diagonal)
    attributes = attributes_of(step, heads, groups, state_size)
    expected, expected_states = selective_scan(**inputs, **attributes)
    y, states = library.run("SelectiveScan", inputs, OUTPUTS, threads=2, **attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-6 * np.abs(expected).max())
    np.testing.assert_allclose(states, expected_states, rtol=1e-4, atol=1e-5)
    untouched = expected_states == inputs["states"]
    np.testing.assert_array_equal(states[untouched], inputs["states"][untouched])


@pytest.mark.parametrize("diagonal", [False, True])
def test_tokens_one_by_one_have_the_bits_they_have_in_company(
    library: Library, random: np.random.Generator, diagonal: bool
) -> None:
    step = StateStep(new=(40,), fresh=(True,), width=4 * 7 * 37, slots=48)
    inputs = inputs_of(step, random, 4, 7, 2, 37, diagonal=diagonal)
    attributes = attributes_of(step, 4, 2, 37)
    y, _ = library.run("SelectiveScan", inputs, OUTPUTS, threads=2, **attributes)
    for token in range(step.tokens):
        alone = cut(inputs, token, ("x", "steps", "input", "output"))
        one, inputs["states"] = library.run("SelectiveScan", alone, OUTPUTS, **attributes)
        np.testing.assert_array_equal(one[0], y[token])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"heads": 3}, "heads 3 are not a multiple of the 2 groups"),
        ({"heads": 6}, "x has 32 columns, no multiple of the 6 heads"),
        ({"state_size": 4}, r"input has"),
        ({"offset": 400}, "states has 500 values of a state, 400 and 256 are needed"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    best: Library, random: np.random.Generator, attributes, message: str
) -> None:
    step = StateStep(new=(2, 2), width=500)
    inputs = inputs_of(step, random, 4, 8, 2, 8, diagonal=False)
    with pytest.raises(Exception, match=message):
        best.run("SelectiveScan", inputs, OUTPUTS, **{**attributes_of(step, 4, 2, 8), **attributes})
