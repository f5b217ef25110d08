from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.ops.reference import gated_delta_net
from tests.ops.conftest import Library
from tests.ops.state_steps import StateStep, cut

OUTPUTS: list[npt.DTypeLike] = [np.dtype(np.float32)] * 2


def inputs_of(
    step: StateStep,
    random: np.random.Generator,
    heads: int,
    key_heads: int,
    head_dim: int,
    *,
    by_row: bool = False,
) -> dict[str, Any]:
    gates = heads * head_dim if by_row else heads

    def values(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    return {
        "x": values(step.tokens, (2 * key_heads + heads) * head_dim),
        "alpha": values(step.tokens, gates),
        "beta": values(step.tokens, heads),
        "decay": -np.abs(values(heads)),
        "step_bias": values(gates),
        **step.inputs(random),
    }


def attributes_of(
    step: StateStep, heads: int, key_heads: int, head_dim: int, interleaved: int = 0
) -> dict[str, Any]:
    return {
        "offset": step.offset,
        "heads": heads,
        "key_heads": key_heads,
        "head_dim": head_dim,
        "epsilon": 1e-6,
        "interleaved": interleaved,
    }


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    ("step", "heads", "key_heads", "head_dim"),
    [
        (StateStep(new=(1,), width=64), 1, 1, 8),
        (StateStep(new=(7, 1, 0, 12), fresh=(True, False, True), width=900, offset=71), 4, 2, 13),
        (StateStep(new=(3, 1), width=6 * 128**2 + 5, offset=5), 6, 2, 128),
        (StateStep(new=(50,), fresh=(True,), width=2 * 48**2), 2, 1, 48),
    ],
    ids=str,
)
def test_computes_as_defined(
    library: Library, random: np.random.Generator, step, heads, key_heads, head_dim, interleaved
) -> None:
    inputs = inputs_of(step, random, heads, key_heads, head_dim)
    attributes = attributes_of(step, heads, key_heads, head_dim, interleaved)
    expected, expected_states = gated_delta_net(**inputs, **attributes)
    y, states = library.run("GatedDeltaNet", inputs, OUTPUTS, threads=2, **attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-6 * np.abs(expected).max())
    np.testing.assert_allclose(states, expected_states, rtol=1e-4, atol=1e-5)
    untouched = expected_states == inputs["states"]
    np.testing.assert_array_equal(states[untouched], inputs["states"][untouched])


def test_rows_of_a_state_may_have_gates_of_their_own(
    library: Library, random: np.random.Generator
) -> None:
    step = StateStep(new=(7, 1, 12), fresh=(True,), width=4 * 13**2 + 9, offset=9)
    inputs = inputs_of(step, random, 4, 4, 13, by_row=True)
    attributes = attributes_of(step, 4, 4, 13)
    expected, expected_states = gated_delta_net(**inputs, **attributes)
    y, states = library.run("GatedDeltaNet", inputs, OUTPUTS, threads=2, **attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-6 * np.abs(expected).max())
    np.testing.assert_allclose(states, expected_states, rtol=1e-4, atol=1e-5)


def test_tokens_one_by_one_have_the_bits_they_have_in_company(
    library: Library, random: np.random.Generator
) -> None:
    step = StateStep(new=(40,), fresh=(True,), width=3 * 37**2, slots=48)
    inputs = inputs_of(step, random, 3, 3, 37)
    attributes = attributes_of(step, 3, 3, 37)
    y, _ = library.run("GatedDeltaNet", inputs, OUTPUTS, threads=2, **attributes)
    for token in range(step.tokens):
        alone = cut(inputs, token, ("x", "alpha", "beta"))
        one, inputs["states"] = library.run("GatedDeltaNet", alone, OUTPUTS, **attributes)
        np.testing.assert_array_equal(one[0], y[token])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"heads": 3}, "heads 3 are not a multiple of the 2 key_heads"),
        ({"heads": 2}, r"x has"),
        ({"offset": 400}, "states has 500 values of a state, 400 and 256 are needed"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    best: Library, random: np.random.Generator, attributes, message: str
) -> None:
    step = StateStep(new=(2, 2), width=500)
    inputs = inputs_of(step, random, 4, 2, 8)
    with pytest.raises(Exception, match=message):
        best.run("GatedDeltaNet", inputs, OUTPUTS, **{**attributes_of(step, 4, 2, 8), **attributes})
