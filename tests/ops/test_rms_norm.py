from typing import Any

import numpy as np
import pytest

from runtime.ops.reference import rms_norm
from tests.ops.conftest import Library

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("rows", "columns", "group"),
    [(1, 576, 576), (7, 45, 45), (3, 192, 64), (5, 21, 7), (2, 6, 1), (0, 8, 8), (300, 64, 64)],
)
@pytest.mark.parametrize("with_residual", [False, True])
def test_norms_as_defined(
    library: Library,
    random: np.random.Generator,
    rows: int,
    columns: int,
    group: int,
    with_residual: bool,
) -> None:
    x, residual = random.standard_normal((2, rows, columns)).astype(np.float32) * 30
    inputs = {
        "x": x,
        "weight": random.standard_normal(group).astype(np.float32),
        "residual": residual if with_residual else None,
    }
    expected, expected_sum = rms_norm(**inputs, epsilon=1e-5)
    y, total = library.run("RMSNorm", inputs, [F32, F32], epsilon=1e-5)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(total, expected_sum)
    (only,) = library.run("RMSNorm", inputs, [F32], epsilon=1e-5, threads=2)
    np.testing.assert_array_equal(only, y)
    for row in range(min(rows, 3)):
        alone = {name: inputs[name][row : row + 1] for name in ("x",)}
        if with_residual:
            alone["residual"] = residual[row : row + 1]
        (single,) = library.run("RMSNorm", {**inputs, **alone}, [F32], epsilon=1e-5)
        np.testing.assert_array_equal(single[0], y[row])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (2, 8), "weight": (3,)}, "weight has 3 values, which do not divide the 8 columns"),
        ({"x": (2, 8), "weight": (0,)}, "weight has 0 values"),
        ({"x": (2, 8), "weight": (8,), "residual": (2, 4)}, r"residual has shape \[2, 4\]"),
        ({"x": (8,), "weight": (8,)}, r"x has shape \[8\], expected \[\*, \*\]"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(
    best: Library, inputs: dict[str, Any], message: str
) -> None:
    tensors = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
    with pytest.raises(Exception, match="RMSNorm: " + message):
        best.run("RMSNorm", tensors, [F32], epsilon=1e-5)
