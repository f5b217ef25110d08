"""The search for likeliest tokens and the sums over logits, on every instruction set."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import DeviceError
from runtime.ops.library import set_instruction_set
from runtime.sampling import StepLogits
from runtime.sampling.adjustments import UNCHANGED
from runtime.sampling.whole_rows import deviations

SPECIAL = (0.0, -0.0, -np.inf, 1e-45, float(np.finfo(np.float32).max))


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    try:
        set_instruction_set(name)
    except DeviceError:
        pytest.skip(f"this processor has no {name}")
    yield name
    set_instruction_set("best")


def drawn_rows(data: st.DataObject) -> np.ndarray:
    """Rows of few distinct values, so that ties fall on every border, and some special ones."""
    size = data.draw(st.integers(1, 64) | st.sampled_from((65, 127, 128, 1000, 3000)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = random.integers(-9, data.draw(st.integers(-8, 99)), (3, size)).astype(np.float32) / 4
    is_special = random.random((3, size)) < data.draw(st.sampled_from((0.0, 0.1, 0.9)))
    return np.where(is_special, random.choice(SPECIAL, (3, size)), values).astype(np.float32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_likeliest_are_those_of_a_stable_sort(
    instruction_set: str, data: st.DataObject
) -> None:
    logits = drawn_rows(data)
    step = StepLogits(logits)
    assert step.likeliest == logits.argmax(axis=1).tolist()
    assert step.finite == np.isfinite(logits.max(axis=1)).tolist()
    count = data.draw(st.integers(1, logits.shape[1] + 3))
    rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    tokens, values = step.best(rows, count)
    order = np.argsort(-logits, axis=1, kind="stable")[rows, :count]
    assert tokens.tolist() == order.tolist()
    assert values.tolist() == np.take_along_axis(logits[rows], order, axis=1).tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 130, 199])
def test_a_row_with_infinity_or_no_number_is_found(
    instruction_set: str, value: float, place: int
) -> None:
    logits = np.full((3, 200), -np.inf, np.float32)
    logits[:2, 7] = 1.0
    logits[1, place] = value
    assert StepLogits(logits).finite == [True, False, False]


@pytest.mark.parametrize("offset", [0.0, 1e3, -3e4])
def test_the_deviation_has_the_same_bits_on_every_instruction_set(
    instruction_set: str, offset: float
) -> None:
    logits = (np.random.default_rng(1).standard_normal(5003) * 3 + offset).astype(np.float32)
    logits[::7] = -np.inf
    (found,) = deviations([logits], [UNCHANGED]).tolist()
    assert found == pytest.approx(logits[logits > -np.inf].std(dtype=np.float64), rel=1e-5)
    set_instruction_set("scalar")
    assert deviations([logits], [UNCHANGED]).tolist() == [found]
