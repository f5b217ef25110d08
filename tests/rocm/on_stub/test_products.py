"""Products as the launcher splits them, by the interpreted sources, as defined."""

import numpy as np
import pytest

from runtime.ops.reference import quant_matmul
from tests.block_formats import weights
from tests.ops.gpu.interpreter import ceiling, variant_of
from tests.ops.gpu.nvidia import splits_of
from tests.rocm.kernels import Launch
from tests.rocm.on_stub.nodes import run_nodes
from tests.rocm.on_stub.test_interpreted_kernels import InterpretedKernels
from tests.rocm.stub_device import Computes, StubDevice


class Noted:
    """The launches by their kernels' names; they are computed where `kernels` are given."""

    def __init__(self, kernels: Computes | None = None) -> None:
        self.launches: dict[str, Launch] = {}
        self._kernels = kernels

    def run(self, launch: Launch) -> None:
        self.launches[launch.kernel] = launch
        if self._kernels is not None:
            self._kernels.run(launch)


@pytest.mark.parametrize(
    ("kernel", "count", "columns", "splits"),
    [
        ("one_row", 1, 1024, 1),
        ("few_rows", 3, 1024, 2),
        ("many_rows", 33, 1024, 2),
        ("few_rows", 2, 32 * 47, 2),
        ("few_rows", 2, 32 * 17, 1),
    ],
)
def test_a_product_is_as_defined(
    device: StubDevice, kernel: str, count: int, columns: int, splits: int
) -> None:
    noted, rows = Noted(InterpretedKernels()), 70
    device.compute_with(noted)
    random = np.random.default_rng(4)
    x = random.standard_normal((count, columns)).astype(np.float32)
    bias = random.standard_normal(rows).astype(np.float32)
    blocks = weights(random, "Q8_0", rows, columns)
    constants, order = {"w": blocks, "bias": bias}, ["x", "w", "bias"]
    y = run_nodes("QuantMatMul", {"x": x}, constants, order, format="Q8_0", columns=columns)
    expected = quant_matmul(x, blocks, bias, format="Q8_0", columns=columns)
    assert np.linalg.norm(y - expected) < 1e-3 * np.linalg.norm(expected)
    assert noted.launches[kernel].grid[2] == splits
    assert ("sum_splits" in noted.launches) == (splits > 1)
    assert ("round_activations" in noted.launches) == (kernel != "one_row")


@pytest.mark.parametrize(("count", "rows"), [(2, 1024), (32, 200), (40, 4096), (300, 64)])
def test_what_is_timed_is_split_as_the_launcher_splits(
    device: StubDevice, count: int, rows: int
) -> None:
    columns = 32 * 100
    noted = Noted()
    device.compute_with(noted)
    blocks = weights(np.random.default_rng(4), "Q8_0", rows, columns)
    x = np.zeros((count, columns), np.float32)
    run_nodes("QuantMatMul", {"x": x}, {"w": blocks}, ["x", "w"], format="Q8_0", columns=columns)
    kernel = "few_rows" if count <= 32 else "many_rows"
    tile = variant_of(f"{kernel}.q8_0").constants
    tiles = ceiling(rows, tile["COLUMNS"]) * ceiling(count, tile["ROWS"])
    assert noted.launches[kernel].grid[2] == splits_of(kernel, tiles, columns // 32)
