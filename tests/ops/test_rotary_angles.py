import numpy as np
import pytest

from runtime.ops.reference import rotary_angles
from tests.ops.conftest import Library


@pytest.mark.parametrize("rotated", [0, 2, 64])
@pytest.mark.parametrize("magnitude", [1.0, 1.25])
def test_angles_are_those_of_the_definition_to_the_last_position(
    library: Library, rotated: int, magnitude: float
) -> None:
    positions = np.array([0, 1, 17, 131_071, 1_000_000], np.int32)
    frequencies = (10000.0 ** -(np.arange(0, rotated, 2) / max(rotated, 1))).astype(np.float32)
    inputs = {"positions": positions, "inverse_frequencies": frequencies}
    angles = library.run("RotaryAngles", inputs, [np.float32], magnitude=magnitude)[0]
    expected = rotary_angles(positions, frequencies, magnitude=magnitude)
    assert angles.shape == (5, rotated)
    np.testing.assert_allclose(angles, expected, rtol=1e-6, atol=1e-7)


def test_many_tokens_on_two_threads_have_the_bits_of_one(best: Library) -> None:
    inputs = {
        "positions": np.arange(3000, dtype=np.int32),
        "inverse_frequencies": np.linspace(0.01, 1, 32, dtype=np.float32),
    }
    one = best.run("RotaryAngles", inputs, [np.float32], threads=1)[0]
    two = best.run("RotaryAngles", inputs, [np.float32], threads=2)[0]
    np.testing.assert_array_equal(one, two)
