from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from runtime.ops.reference import causal_convolution
from tests.ops.conftest import Library
from tests.ops.state_steps import StateStep, cut

OUTPUTS: list[npt.DTypeLike] = [np.dtype(np.float32)] * 2


def inputs_of(
    step: StateStep, random: np.random.Generator, channels: int, taps: int, *, biased: bool = True
) -> dict[str, Any]:
    return {
        "x": random.standard_normal((step.tokens, channels)).astype(np.float32),
        "weight": random.standard_normal((channels, taps)).astype(np.float32),
        "bias": random.standard_normal(channels).astype(np.float32) if biased else None,
        **step.inputs(random),
    }


@pytest.mark.parametrize("activation", ["", "silu"])
@pytest.mark.parametrize(
    ("step", "channels", "taps"),
    [
        (StateStep(new=(1,), width=12), 4, 4),
        (StateStep(new=(9, 1, 0, 23), fresh=(True, False, True), width=200, offset=71), 43, 4),
        (StateStep(new=(2, 1), width=34), 17, 3),
        (StateStep(new=(40,), fresh=(True,), width=2000, offset=1), 500, 4),
        (StateStep(new=(3,), width=5), 5, 1),
    ],
    ids=str,
)
def test_convolves_as_defined(
    library: Library, random: np.random.Generator, step, channels, taps, activation: str
) -> None:
    inputs = inputs_of(step, random, channels, taps, biased=activation == "silu")
    attributes = {"offset": step.offset, "activation": activation}
    expected, expected_states = causal_convolution(**inputs, **attributes)
    y, states = library.run("CausalConvolution", inputs, OUTPUTS, threads=2, **attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(states, expected_states)


def test_tokens_one_by_one_have_the_bits_they_have_in_company(
    library: Library, random: np.random.Generator
) -> None:
    step = StateStep(new=(40,), fresh=(True,), width=300, slots=48)
    inputs = inputs_of(step, random, 100, 4)
    attributes: dict[str, Any] = {"offset": 0, "activation": "silu"}
    y, _ = library.run("CausalConvolution", inputs, OUTPUTS, threads=2, **attributes)
    for token in range(step.tokens):
        alone = cut(inputs, token, ("x",))
        one, inputs["states"] = library.run("CausalConvolution", alone, OUTPUTS, **attributes)
        np.testing.assert_array_equal(one[0], y[token])


def test_the_states_are_written_in_place(best: Library, random: np.random.Generator) -> None:
    step = StateStep(new=(5, 3), width=60)
    inputs = inputs_of(step, random, 20, 4)
    _, expected = causal_convolution(**inputs, offset=0)
    session = best.session("CausalConvolution", inputs, OUTPUTS, offset=0)
    states = onnxruntime.OrtValue.ortvalue_from_numpy(inputs["states"])
    binding = session.io_binding()
    for name, value in inputs.items():
        if name != "states":
            binding.bind_cpu_input(name, value)
    binding.bind_ortvalue_input("states", states)
    binding.bind_ortvalue_output("y1", states)
    binding.bind_output("y0")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(states.numpy(), expected)


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({"state_starts": [64, 0]}, {}, "state_starts names slot 64, there are 64"),
        ({"state_slots": [0, 1, -2, 3]}, {}, "state_slots names slot -2"),
        ({"state_starts": [0]}, {}, "state_starts has"),
        ({"row_starts": [0, 3, 5]}, {}, "row_starts does not rise from 0 to the 4 tokens"),
        ({}, {"offset": 31}, "states has 60 values of a state, 31 and 30 are needed"),
        ({}, {"offset": -1}, "offset is -1"),
        ({}, {"activation": "gelu"}, "activation 'gelu' is unknown"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    best: Library, random: np.random.Generator, changes, attributes, message: str
) -> None:
    step = StateStep(new=(2, 2), width=60)
    inputs = inputs_of(step, random, 10, 4)
    inputs |= {name: np.array(value, np.int32) for name, value in changes.items()}
    with pytest.raises(Exception, match=message):
        best.run("CausalConvolution", inputs, OUTPUTS, **{"offset": 0, **attributes})
