"""The judge of regressions: intervals, planted changes, and noise that real machines made."""

import json
from collections.abc import Sequence
from math import exp
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.benchmark.intervals import MIN_BLOCKS, interval, middle, student_quantile
from pipelines.benchmark.judge import Earlier, Verdict, at_speed, expect_figures, judge, limit
from pipelines.benchmark.measurement import BLOCK, BLOCKS, Measurement
from pipelines.benchmark.record_report import described
from runtime.errors import SettingsError
from tests.pipelines.measurements import measurement
from tests.pipelines.simulate_judge import blocks_beside, covered, red_nights

NOISE = json.loads((Path(__file__).parents[1] / "golden" / "benchmark_noise.json").read_text())
"""Logarithms of paired ratios of a version and itself; see repeat_benchmark.py."""
DECODE = "decode_short_tokens_per_second"
FIRST = "streams_8_first_token_p50_ms"
REPEATS = 20
LOGS = st.floats(-2, 2)
NOTHING = Earlier()


def regressed(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.figure for verdict in verdicts if verdict.regressed]


@given(st.lists(LOGS, min_size=MIN_BLOCKS, max_size=25), LOGS)
def test_an_interval_holds_its_estimate_and_moves_with_its_values(
    values: list[float], shift: float
) -> None:
    found, moved = interval(values), interval([value + shift for value in values])
    assert found is not None
    assert moved is not None
    assert found.low <= found.estimate <= found.high
    expected = [bound + shift for bound in (found.low, found.estimate, found.high)]
    assert [moved.low, moved.estimate, moved.high] == pytest.approx(expected, abs=1e-9)


def test_student_quantiles_are_those_of_the_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 30: 2.042}
    for degrees, expected in table.items():
        assert student_quantile(degrees, 0.95) == pytest.approx(expected, abs=6e-4)


def test_the_middle_of_some_nights_is_not_moved_by_a_wild_one() -> None:
    assert middle([0.0, 0.0, 0.0, 0.0, 9.0]) == 0.0
    assert middle([1.0, 2.0]) == 1.5


@pytest.mark.parametrize("luck", [0.0, 0.03, 0.05, 0.08])
def test_an_interval_holds_the_truth_whatever_luck_a_process_has(luck: float) -> None:
    random = np.random.default_rng(11)
    held = [covered(blocks_beside(random, luck, 1.2), 1.2) for _ in range(150)]
    assert np.mean(held) > 0.93


def test_too_few_blocks_are_not_judged() -> None:
    pair = {DECODE: [50.0] * 8}, {DECODE: [100.0] * 8}
    (verdict,) = judge(measurement(*pair, speeds=(1.0,) * MIN_BLOCKS), NOTHING, {})
    assert verdict.times_worse is None
    (verdict,) = judge(measurement(*pair, speeds=(1.0,) * (MIN_BLOCKS + 1)), NOTHING, {})
    assert verdict.regressed


def test_one_wild_round_decides_nothing() -> None:
    ours, theirs = [100.0] * 10, [100.0] * 10
    ours[3] = 1.0
    assert regressed(judge(measurement({DECODE: ours}, {DECODE: theirs}), NOTHING, {})) == []


def test_a_slower_version_is_named_with_by_how_much() -> None:
    theirs = {DECODE: [100.0, 102, 98, 101, 99, 100, 103, 97], FIRST: [50.0] * 8}
    ours = {DECODE: [value / 1.2 for value in theirs[DECODE]], FIRST: [60.0] * 8}
    found = measurement(ours, theirs)
    verdicts = judge(found, NOTHING, {})
    assert regressed(verdicts) == [DECODE, FIRST]
    kinds = {kind.name: kind for kind in found.result.kinds()}
    assert described(verdicts[0], kinds[DECODE]) == (
        "decode, short context is 1.20 times worse than version 1 (1.20 to 1.20; 1.10 is allowed)"
    )
    # A faster one is no regression.
    assert regressed(judge(measurement(theirs, ours), NOTHING, {})) == []


def test_a_threshold_of_a_users_own_wins() -> None:
    pair = {DECODE: [93.0] * 8, FIRST: [56.0] * 8}, {DECODE: [100.0] * 8, FIRST: [50.0] * 8}
    found = measurement(*pair)
    assert regressed(judge(found, NOTHING, {})) == [FIRST]
    assert regressed(judge(found, NOTHING, {DECODE: 1.05, "first_token_p50_ms": 1.5})) == [DECODE]
    assert limit("streams_8_first_token_p95_ms", {}) == 1.25


def test_a_disturbance_of_both_sides_is_no_regression() -> None:
    theirs = [100.0, 100, 30, 31, 100, 100, 99, 30]
    ours = [value * 0.98 for value in theirs]
    assert regressed(judge(measurement({DECODE: ours}, {DECODE: theirs}), NOTHING, {})) == []


def test_the_baseline_needs_some_nights_and_follows_the_machine() -> None:
    night = measurement({DECODE: [100.0] * 8})
    slow = measurement({DECODE: [100 / 1.4] * 8})
    assert judge(slow, Earlier([night, night]), {}) == ()
    assert regressed(judge(slow, Earlier([night] * 3), {})) == [DECODE]
    # A machine that is slower today explains a slower server.
    slow_machine = measurement({DECODE: [100 / 1.4] * 8}, speeds=(1 / 1.4,) * 9)
    (verdict,) = judge(slow_machine, Earlier([night] * 3), {})
    assert not verdict.regressed
    assert verdict.reference == pytest.approx(100 / 1.4)


def test_a_known_steady_machine_is_judged_closer() -> None:
    slow = measurement({DECODE: [100 / 1.2] * 8})
    nights = [measurement({DECODE: [rate] * 8}) for rate in (99.0, 100, 101, 100, 99, 101, 100, 98)]
    assert regressed(judge(slow, Earlier(nights[:3]), {})) == []
    assert regressed(judge(slow, Earlier(nights), {})) == [DECODE]


def night(rate: float, **of: float) -> Measurement:
    return measurement({DECODE: [rate] * 8}, **of)  # type: ignore[arg-type]


def test_a_lucky_night_hides_no_lasting_slow_down() -> None:
    good = [night(rate) for rate in (100, 101, 99, 100, 102, 98, 100, 100)]
    # The second slow night is within what one night may be; then it goes on.
    slow = [night(rate) for rate in (80, 92, 80, 79, 81, 80)]
    for count in range(1, len(slow) + 1):
        (verdict,) = judge(slow[count - 1], Earlier([*good, *slow[: count - 1]]), {})
        assert verdict.regressed
    assert verdict.nights == len(slow)


def test_a_slow_night_that_comes_back_is_forgotten_at_once() -> None:
    good = [night(100)] * 8
    assert regressed(judge(night(70), Earlier(good), {})) == [DECODE]
    assert regressed(judge(night(100), Earlier([*good, night(70)]), {})) == []


def test_a_slow_drift_is_worse_in_the_end() -> None:
    drift = [night(100 * 0.99**day) for day in range(60)]
    assert regressed(judge(drift[-1], Earlier(drift[:-1]), {})) == [DECODE]


def test_what_is_caught_stays_red_and_nights_that_vary_raise_few_alarms() -> None:
    # python -m tests.pipelines.simulate_judge prints the whole table.
    random = np.random.default_rng(5)
    for good in (4, 11):
        slow = [red_nights(random, good, 0.02, 0.03, 1.2, 12) for _ in range(4)]
        assert all(all(nights[2:]) for nights in slow)
    alarms = [red_nights(random, 3, 0.05, 0.05, 1.0, 15) for _ in range(4)]
    assert np.mean(alarms) <= 0.02


@given(st.integers(0, 2**32 - 1), st.floats(1.3, 3), st.integers(4, 12), st.integers(1, 20))
def test_nights_that_follow_never_turn_a_lasting_slow_down_green(
    seed: int, factor: float, good: int, later: int
) -> None:
    random = np.random.default_rng(seed)
    before = [night(100 * float(np.exp(random.normal(0, 0.01)))) for _ in range(good)]
    slow = [night(100 / factor * float(np.exp(random.normal(0, 0.01)))) for _ in range(later)]
    verdicts = judge(slow[-1], Earlier([*before, *slow[:-1]]), {})
    # One slow night after few good ones may be within what is allowed; three are not.
    assert regressed(verdicts) == [DECODE] or later < 3


def test_a_figure_that_was_worse_beside_a_version_stays_so_until_it_has_come_back() -> None:
    def beside(rate: float, worse: bool) -> Verdict:
        known = Earlier(worse={(DECODE, "version 1")} if worse else ())
        (verdict,) = judge(measurement({DECODE: [rate] * 8}, {DECODE: [100.0] * 8}), known, {})
        return verdict

    assert beside(80.0, False).regressed
    assert not beside(93.0, False).regressed
    assert beside(93.0, True).regressed
    assert not beside(98.0, True).regressed


def test_what_was_accepted_beside_a_version_may_stay_as_it_was_but_no_worse() -> None:
    known = Earlier(accepted={(DECODE, "version 1"): 1.25})
    for rate, expected in ((80.0, []), (70.0, [DECODE])):
        found = measurement({DECODE: [rate] * 8}, {DECODE: [100.0] * 8})
        assert regressed(judge(found, known, {})) == expected


def test_a_disturbed_night_leaves_what_was_worse_before_it_red() -> None:
    disturbed = night(100, others_processor_share=0.3)
    known = [*[night(100)] * 5, night(70), night(70)]
    assert regressed(judge(disturbed, Earlier(known), {})) == [DECODE]


@pytest.mark.parametrize(
    "name", ["prefil_tokens_per_second", "streams_8_start_seconds", "streams_tokens_per_second"]
)
def test_a_limit_of_what_is_no_figure_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"BENCHMARK_ALLOWED names {name}, which is no figure"):
        expect_figures({name: 1.05})
    expect_figures({DECODE: 1.05, "first_token_p50_ms": 1.3, "streams_4_tokens_per_second": 1.2})


def test_a_disturbed_night_is_not_judged_by_the_nights_before() -> None:
    night = measurement({DECODE: [100.0] * 8})
    disturbed = measurement({DECODE: [50.0] * 8}, others_processor_share=0.3)
    assert judge(disturbed, Earlier([night] * 3), {}) == ()


def test_samples_are_taken_to_the_speed_of_their_own_block() -> None:
    found = measurement({DECODE: [100.0, 100, 50, 50]}, speeds=(1.0, 1.0, 0.25))
    kind = found.result.kinds()[0]
    # The second block ran between the speeds 1 and 1/4: at half the speed.
    assert at_speed(kind, found, 1e9) == pytest.approx([100.0] * 4)


def repeat(random: np.random.Generator, slower: float) -> list[str]:
    """One night in real noise: rounds drawn from it, each way round as likely."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for figure, (singles, ratios) in NOISE.items():
        rounds = BLOCKS * (BLOCK.single_rounds if singles == 20 else BLOCK.stream_rounds)
        drawn = random.choice(ratios, rounds) * random.choice((-1, 1), rounds)
        is_rate = figure.endswith("tokens_per_second")
        factor = 1 / slower if is_rate else 1.0 if "memory" in figure else slower
        ours[figure] = [100 * factor * exp(value) for value in drawn]
        theirs[figure] = [100.0] * rounds
    return regressed(judge(measurement(ours, theirs), NOTHING, {}))


def test_twenty_repeats_in_real_noise_raise_at_most_one_false_alarm() -> None:
    random = np.random.default_rng(1)
    alarms = [repeat(random, slower=1.0) for _ in range(10 * REPEATS)]
    # Ten times twenty repeats, so that luck cannot pass or fail it.
    assert sum(map(bool, alarms)) <= 10


def test_twenty_per_cent_slower_is_caught_in_real_noise() -> None:
    random = np.random.default_rng(2)
    caught = [repeat(random, slower=1.2) for _ in range(REPEATS)]
    assert all(caught)


@given(seed=st.integers(0, 2**32 - 1), burst=st.floats(1.5, 20), length=st.integers(1, 3))
def test_a_burst_of_another_program_in_some_rounds_is_no_regression(
    seed: int, burst: float, length: int
) -> None:
    """It may hit one side alone, in up to three rounds on end."""
    random = np.random.default_rng(seed)
    rounds = BLOCKS * BLOCK.single_rounds
    ours = 10 * np.exp(random.normal(0, 0.05, rounds))
    theirs = 10 * np.exp(random.normal(0, 0.05, rounds))
    begin = random.integers(0, rounds - length)
    ours[begin : begin + length] *= burst
    found = measurement({FIRST: ours.tolist()}, {FIRST: theirs.tolist()})
    assert regressed(judge(found, NOTHING, {})) == []
