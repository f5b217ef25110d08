"""Products as the launcher splits them, by the interpreted sources, as defined."""

import numpy as np
import pytest

from runtime.ops.reference import quant_matmul
from tests.block_formats import weights
from tests.rocm.on_stub.one_node import run_nodes
from tests.rocm.on_stub.test_interpreted_kernels import InterpretedKernels
from tests.rocm.stub_device import StubDevice

COLUMNS, ROWS = 1024, 70


@pytest.mark.parametrize(
    ("count", "launched"),
    [
        (1, ["one_row.q8_0"]),
        (3, ["few_rows.q8_0", "round_activations", "sum_splits"]),
        (33, ["many_rows.q8_0", "round_activations", "sum_splits"]),
    ],
)
def test_a_product_is_as_defined(device: StubDevice, count: int, launched: list[str]) -> None:
    device.compute_with(InterpretedKernels())
    random = np.random.default_rng(4)
    x = random.standard_normal((count, COLUMNS)).astype(np.float32)
    bias = random.standard_normal(ROWS).astype(np.float32)
    blocks = weights(random, "Q8_0", ROWS, COLUMNS)
    constants, order = {"w": blocks, "bias": bias}, ["x", "w", "bias"]
    y = run_nodes("QuantMatMul", {"x": x}, constants, order, format="Q8_0", columns=COLUMNS)
    expected = quant_matmul(x, blocks, bias, format="Q8_0", columns=COLUMNS)
    assert np.linalg.norm(y - expected) < 1e-3 * np.linalg.norm(expected)
    assert sorted(device.launches) == launched
