"""Each row without its mean, over its standard deviation, times the weight."""

from typing import Any

import numpy as np
import pytest

from runtime.ops.reference import layer_norm
from tests.ops.conftest import Library

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 576), (7, 45), (5, 3), (0, 8), (300, 64)])
@pytest.mark.parametrize("with_residual", [False, True])
def test_norms_as_defined(
    library: Library, random: np.random.Generator, rows: int, columns: int, with_residual: bool
) -> None:
    x, residual = 5 + random.standard_normal((2, rows, columns)).astype(np.float32) * 30
    inputs: dict[str, Any] = {"x": x, "weight": random.standard_normal(columns).astype(np.float32)}
    if with_residual:
        inputs["residual"] = residual
    expected, expected_sum = layer_norm(**inputs, epsilon=1e-5)
    y, total = library.run("LayerNorm", inputs, [F32, F32], epsilon=1e-5)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(total, expected_sum)
    (only,) = library.run("LayerNorm", inputs, [F32], epsilon=1e-5, threads=2)
    np.testing.assert_array_equal(only, y)
    if rows > 1:
        alone = {name: value if name == "weight" else value[1:2] for name, value in inputs.items()}
        (single,) = library.run("LayerNorm", alone, [F32], epsilon=1e-5)
        np.testing.assert_array_equal(single[0], y[1])


def test_a_weight_of_another_width_is_an_error(best: Library) -> None:
    inputs = {"x": np.zeros((2, 8), np.float32), "weight": np.zeros(4, np.float32)}
    with pytest.raises(Exception, match=r"LayerNorm: weight has shape \[4\], expected \[8\]"):
        best.run("LayerNorm", inputs, [F32], epsilon=1e-5)
