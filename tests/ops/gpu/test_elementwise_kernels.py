"""Norms, activations and angles of the GPU kernels, interpreted, as defined."""

from typing import Any

import numpy as np
import pytest

from runtime.ops.reference import expert_activation, layer_norm, rms_norm, rotary_angles
from tests.ops.gpu.interpreter import ceiling, launch, variant_of


@pytest.mark.parametrize(("width", "groups"), [(48, 3), (256, 1), (2880, 1), (1024, 2)])
@pytest.mark.parametrize("has_residual", [False, True])
def test_norm_is_as_defined(
    random: np.random.Generator, width: int, groups: int, has_residual: bool
) -> None:
    x = random.standard_normal((3, groups * width)).astype(np.float32)
    residual = random.standard_normal(x.shape).astype(np.float32) if has_residual else None
    weight = random.standard_normal(width).astype(np.float32)
    y, total = np.full_like(x, np.nan), np.full_like(x, np.nan)
    name = "rms_norm.narrow" if width <= 256 else "rms_norm.wide"
    flags = [int(has_residual), int(has_residual), 1e-5]
    launch(name, (3 * groups,), y, total, x, residual, weight, width, *flags)
    expected, expected_total = rms_norm(x, weight, residual, epsilon=1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    if has_residual:
        np.testing.assert_array_equal(total, expected_total)


@pytest.mark.parametrize("width", [48, 1024, 2880])
@pytest.mark.parametrize("has_residual", [False, True])
def test_layer_norm_is_as_defined(
    random: np.random.Generator, width: int, has_residual: bool
) -> None:
    # Far from zero, as its mean is taken away.
    x = 20 + random.standard_normal((3, width)).astype(np.float32)
    residual = random.standard_normal(x.shape).astype(np.float32) if has_residual else None
    weight = random.standard_normal(width).astype(np.float32)
    y, total = np.full_like(x, np.nan), np.full_like(x, np.nan)
    flags = [int(has_residual), int(has_residual), 1e-5]
    launch("layer_norm", (3,), y, total, x, residual, weight, width, *flags)
    expected, expected_total = layer_norm(x, weight, residual, epsilon=1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)
    if has_residual:
        np.testing.assert_array_equal(total, expected_total)


@pytest.mark.parametrize(("kind", "activation"), [(0, "silu"), (1, "gelu"), (2, "clamped_silu")])
def test_activations_are_as_defined(
    random: np.random.Generator, kind: int, activation: Any
) -> None:
    gate = (10 * random.standard_normal((3, 528))).astype(np.float32)
    up = (10 * random.standard_normal((3, 528))).astype(np.float32)
    gate[0, :3] = -200, 200, 0
    y = np.full_like(gate, np.nan)
    block = variant_of("gated_activation").constants["BLOCK"]
    launch("gated_activation", (ceiling(y.size, block),), y, gate, up, y.size, kind)
    expected = expert_activation(gate, up, activation=activation)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("half", [24, 64, 100])
def test_angles_of_far_positions_are_as_defined(random: np.random.Generator, half: int) -> None:
    positions = np.array([0, 1, 4095, 131071, 1000003], np.int32)
    frequencies = (1e4 ** -(np.arange(half) / half)).astype(np.float32)
    angles = np.full((len(positions), 2 * half), np.nan, np.float32)
    launch("rotary_angles", (len(positions),), angles, positions, frequencies, half, 1.25)
    expected = rotary_angles(positions, frequencies, magnitude=1.25)
    np.testing.assert_allclose(angles, expected, atol=2e-6)
