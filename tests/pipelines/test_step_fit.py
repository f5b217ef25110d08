"""The fitted model of a step's time, on times that are known."""

from statistics import median

import pytest

from pipelines.simulation.measured import SAMPLE_MODEL, Measured, MeasuredStep
from pipelines.simulation.step_fit import errors, fit
from pipelines.simulation.step_times import Line, StepTimes, Work

KINDS = (
    *((1, tokens, 0) for tokens in (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    *((1, tokens, start) for tokens in (1, 16, 256) for start in (1024, 4096)),
    *((rows, 1, start) for rows in (2, 4, 8, 16, 32, 64) for start in (64, 1024)),
)
TRUE = StepTimes(
    tokens=Line((1, 8, 256), (4.0, 6.0, 160.0)),
    logits=Line((1, 64), (0.0, 9.0)),
    ns_per_pair=60.0,
    ns_per_position=200.0,
    engine_ms=0.02,
    engine_ms_per_row=0.01,
)


def timed(kind: tuple[int, int, int]) -> MeasuredStep:
    step = MeasuredStep(*kind, ms=(1.0,))
    return MeasuredStep(*kind, ms=(TRUE.model_ns(step.work) / 1e6,) * 3)


def test_a_fit_repeats_times_that_the_model_made() -> None:
    steps = [timed(kind) for kind in KINDS]
    found = fit(steps, [(1, 0.03), (32, 0.34)])
    assert max(errors(found, steps)) < 0.01
    assert found.engine_ns(32) == pytest.approx(340_000, rel=0.01)
    unseen = Work.of([(512, 100, 1), (64, 1, 1), (300, 1, 1)])
    assert found.model_ns(unseen) == pytest.approx(TRUE.model_ns(unseen), rel=0.03)


def test_more_work_never_takes_less_time_whatever_the_noise() -> None:
    steps = [
        MeasuredStep(step.rows, step.tokens, step.start, (step.ms[0] * (1.3 if n % 2 else 0.7),))
        for n, step in enumerate(map(timed, KINDS))
    ]
    found = fit(steps, [(1, 0.3), (32, 0.1)])
    assert list(found.tokens.ms) == sorted(found.tokens.ms)
    assert list(found.logits.ms) == sorted(found.logits.ms)
    assert min(found.ns_per_pair, found.ns_per_position, found.engine_ms_per_row) >= 0


def test_a_line_is_straight_between_its_points_and_beyond_them() -> None:
    line = Line((1, 3, 5), (1.0, 2.0, 6.0))
    assert [line(count) for count in (1, 2, 3, 4, 5, 7)] == [1.0, 1.5, 2.0, 4.0, 6.0, 10.0]


def test_work_is_what_a_step_reads_and_computes() -> None:
    work = Work.of([(0, 4, 0), (10, 1, 1)])
    assert work == Work(tokens=5, logits=1, pairs=1 + 2 + 3 + 4 + 11, positions=4 + 11)


def test_the_sample_models_times_are_those_of_its_measured_steps() -> None:
    measured = Measured.read(SAMPLE_MODEL)
    wrong = errors(measured.times, measured.steps)
    assert measured.typical_error == pytest.approx(median(wrong), abs=0.001)
    assert measured.largest_error == pytest.approx(max(wrong), abs=0.001)
