"""The search for the likeliest token of rows, on every instruction set."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.sampling import StepLogits

SPECIAL = (0.0, -0.0, -np.inf, 1e-45, float(np.finfo(np.float32).max))


def drawn_rows(data: st.DataObject) -> np.ndarray:
    """Rows of few distinct values, so that ties fall on every border, and some special ones."""
    size = data.draw(st.integers(1, 64) | st.sampled_from((65, 127, 128, 1000, 3000)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = random.integers(-9, data.draw(st.integers(-8, 99)), (3, size)).astype(np.float32) / 4
    is_special = random.random((3, size)) < data.draw(st.sampled_from((0.0, 0.1, 0.9)))
    return np.where(is_special, random.choice(SPECIAL, (3, size)), values).astype(np.float32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_likeliest_is_the_lowest_of_the_largest(
    instruction_set: str, data: st.DataObject
) -> None:
    logits = drawn_rows(data)
    step = StepLogits(logits)
    assert step.likeliest == logits.argmax(axis=1).tolist()
    assert step.finite == np.isfinite(logits.max(axis=1)).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 130, 199])
def test_a_row_with_infinity_or_no_number_is_found(
    instruction_set: str, value: float, place: int
) -> None:
    logits = np.full((3, 200), -np.inf, np.float32)
    logits[:2, 7] = 1.0
    logits[1, place] = value
    assert StepLogits(logits).finite == [True, False, False]
