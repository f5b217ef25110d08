import pytest

from runtime.pace import Pace


def test_patience_is_as_many_tokens_as_fit_into_the_pause() -> None:
    pace = Pace(0.5)
    assert pace.patience == 0
    pace.step_done(0.25, 250, pauses=False)
    assert pace.patience == 500


def test_patience_runs_out_while_steps_leave_others_out_and_is_whole_again_after() -> None:
    pace = Pace(0.5)
    for left in (384, 256, 128, 0, 0):
        pace.step_done(0.125, 128, pauses=True)
        assert pace.patience == left
    pace.step_done(0.125, 128, pauses=False)
    assert pace.patience == 512


def test_steps_too_small_to_be_in_proportion_teach_nothing() -> None:
    pace = Pace(0.5)
    pace.step_done(0.2, 200, pauses=False)
    pace.step_done(0.02, 2, pauses=False)
    assert pace.patience == 500


def test_a_machine_that_gets_slower_gets_shorter_chunks() -> None:
    pace = Pace(1.0)
    pace.step_done(0.1, 100, pauses=False)
    pace.step_done(0.3, 100, pauses=False)
    assert pace.patience == pytest.approx(500)
