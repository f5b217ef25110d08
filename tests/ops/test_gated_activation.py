from typing import Literal

import numpy as np
import pytest

from runtime.ops.reference import gated_activation
from tests.ops.conftest import Library

F32 = np.dtype(np.float32)

Activation = Literal["silu", "gelu"]


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1536), (3, 37), (0, 5), (200, 64)])
def test_activates_as_defined(
    library: Library,
    random: np.random.Generator,
    activation: Activation,
    rows: int,
    columns: int,
) -> None:
    gate, up = random.standard_normal((2, rows, columns)).astype(np.float32) * 6
    inputs = {"gate": gate, "up": up}
    (y,) = library.run("GatedActivation", inputs, [F32], activation=activation, threads=2)
    expected = gated_activation(gate, up, activation=activation)
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-6)
    for row in range(min(rows, 2)):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        (single,) = library.run("GatedActivation", alone, [F32], activation=activation)
        np.testing.assert_array_equal(single[0], y[row])


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_extreme_values(library: Library, activation: str) -> None:
    gate = np.array([[-1e30, -200, -87.5, -0.0, 1e-30, 88.5, 1e30, np.nan, np.inf]], np.float32)
    up = np.ones_like(gate)
    inputs = {"gate": gate, "up": up}
    (y,) = library.run("GatedActivation", inputs, [F32], activation=activation)
    np.testing.assert_allclose(y[0, 1:7], [0, 0, 0, 5e-31, 88.5, 1e30], rtol=1e-6, atol=1e-30)
    assert abs(y[0, 0]) < 1e-6
    assert np.isnan(y[0, 7])
    assert y[0, 8] == np.inf


def test_an_unknown_activation_is_an_error(best: Library) -> None:
    inputs = {"gate": np.zeros((1, 4), np.float32), "up": np.zeros((1, 4), np.float32)}
    with pytest.raises(Exception, match="GatedActivation: activation 'relu' is unknown"):
        best.run("GatedActivation", inputs, [F32], activation="relu")


def test_shapes_that_differ_are_errors(best: Library) -> None:
    inputs = {"gate": np.zeros((1, 4), np.float32), "up": np.zeros((1, 5), np.float32)}
    message = r"GatedActivation: up has shape \[1, 5\], expected \[1, 4\]"
    with pytest.raises(Exception, match=message):
        best.run("GatedActivation", inputs, [F32], activation="silu")
