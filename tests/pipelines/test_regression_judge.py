"""The judge of regressions: exact intervals, planted changes, and noise that real machines made."""

import json
from collections.abc import Sequence
from math import exp
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.regression.intervals import interval, least_values
from pipelines.regression.judge import Verdict, at_speed, judge, limit
from pipelines.regression.report import described
from tests.pipelines.measurements import measurement

NOISE = json.loads((Path(__file__).parents[1] / "golden" / "benchmark_noise.json").read_text())
"""Logarithms of paired ratios of a version beside itself; see repeat_benchmark.py."""
DECODE = "decode_short_tokens_per_second"
FIRST = "streams_8_first_token_p50_ms"
REPEATS = 20
LOGS = st.floats(-2, 2)


def regressed(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.figure for verdict in verdicts if verdict.regressed]


@given(st.lists(LOGS, min_size=6, max_size=25), LOGS)
def test_an_interval_holds_its_estimate_and_moves_with_its_values(
    values: list[float], shift: float
) -> None:
    found, moved = interval(values), interval([value + shift for value in values])
    assert found is not None
    assert moved is not None
    assert min(values) <= found.low <= found.estimate <= found.high <= max(values)
    expected = [bound + shift for bound in (found.low, found.estimate, found.high)]
    assert [moved.low, moved.estimate, moved.high] == pytest.approx(expected, abs=1e-12)


def test_critical_ranks_are_those_of_the_tables() -> None:
    # Wilcoxon's two-sided 5 % points: of 6 values 0, of 10 values 8.
    assert least_values(0.95) == 6
    ten = interval([float(2**n) for n in range(10)], 0.95)
    assert ten is not None
    means = sorted((2**i + 2**j) / 2 for i in range(10) for j in range(i, 10))
    assert (ten.low, ten.high) == (means[8], means[-9])


def test_an_interval_misses_as_seldom_as_it_says() -> None:
    random = np.random.default_rng(7)
    samples = random.standard_t(2, (2000, 12))
    found = [interval(sample.tolist()) for sample in samples]
    missed = sum(each is not None and not each.low <= 0 <= each.high for each in found)
    assert missed / len(found) < 0.065


def test_one_wild_round_decides_nothing() -> None:
    ours, theirs = [100.0] * 10, [100.0] * 10
    ours[3] = 1.0
    assert regressed(judge(measurement({DECODE: ours}, {DECODE: theirs}), [], {})) == []


def test_a_slower_version_is_named_with_by_how_much() -> None:
    theirs = {DECODE: [100.0, 102, 98, 101, 99, 100, 103, 97], FIRST: [50.0] * 8}
    ours = {DECODE: [value / 1.2 for value in theirs[DECODE]], FIRST: [60.0] * 8}
    found = measurement(ours, theirs)
    verdicts = judge(found, [], {})
    assert regressed(verdicts) == [DECODE, FIRST]
    kinds = {kind.name: kind for kind in found.result.kinds()}
    assert described(verdicts[0], kinds[DECODE]) == (
        "decode, short context is 1.20 times worse than version 1 (1.20 to 1.20; 1.10 is allowed)"
    )
    # A faster one is no regression.
    assert regressed(judge(measurement(theirs, ours), [], {})) == []


def test_a_threshold_of_a_users_own_wins() -> None:
    pair = {DECODE: [93.0] * 8, FIRST: [56.0] * 8}, {DECODE: [100.0] * 8, FIRST: [50.0] * 8}
    found = measurement(*pair)
    assert regressed(judge(found, [], {})) == [FIRST]
    assert regressed(judge(found, [], {DECODE: 1.05, "first_token_p50_ms": 1.5})) == [DECODE]
    assert limit("streams_8_first_token_p95_ms", {}) == 1.25


def test_a_disturbance_of_both_sides_is_no_regression() -> None:
    theirs = [100.0, 100, 30, 31, 100, 100, 99, 30]
    ours = [value * 0.98 for value in theirs]
    assert regressed(judge(measurement({DECODE: ours}, {DECODE: theirs}), [], {})) == []


def test_the_baseline_needs_some_nights_and_follows_the_machine() -> None:
    night = measurement({DECODE: [100.0] * 8})
    slow = measurement({DECODE: [100 / 1.3] * 8})
    assert judge(slow, [night, night], {}) == ()
    assert regressed(judge(slow, [night] * 3, {})) == [DECODE]
    # A machine that is slower today explains a slower server.
    slow_machine = measurement({DECODE: [100 / 1.3] * 8}, speeds=(1 / 1.3, 1 / 1.3))
    (verdict,) = judge(slow_machine, [night] * 3, {})
    assert not verdict.regressed
    assert verdict.reference == pytest.approx(100 / 1.3)


def test_a_known_steady_machine_is_judged_closer() -> None:
    slow = measurement({DECODE: [100 / 1.2] * 8})
    nights = [measurement({DECODE: [rate] * 8}) for rate in (99.0, 100, 101, 100, 99, 101, 100, 98)]
    assert regressed(judge(slow, nights[:7], {})) == []
    assert regressed(judge(slow, nights, {})) == [DECODE]


def test_what_was_good_in_the_worst_night_is_good_today() -> None:
    nights = [measurement({DECODE: [rate] * 8}) for rate in (*[100.0] * 9, 78)]
    (verdict,) = judge(measurement({DECODE: [80.0] * 8}), nights, {})
    assert verdict.allowed == pytest.approx(100 / 78)
    assert not verdict.regressed


def test_a_disturbed_night_is_not_judged_by_the_nights_before() -> None:
    night = measurement({DECODE: [100.0] * 8})
    disturbed = measurement({DECODE: [50.0] * 8}, others_processor_share=0.3)
    assert judge(disturbed, [night] * 3, {}) == ()


def test_samples_are_taken_to_the_speed_of_their_own_block() -> None:
    found = measurement({DECODE: [100.0, 100, 50, 50]}, speeds=(1.0, 1.0, 0.25))
    kind = found.result.kinds()[0]
    # The second block ran between the speeds 1 and 1/4: at half the speed.
    assert at_speed(kind, found, 1e9) == pytest.approx([100.0] * 4)


def repeat(random: np.random.Generator, slower: float) -> list[str]:
    """One night in real noise: rounds drawn from it, each way round as likely."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for figure, (rounds, ratios) in NOISE.items():
        drawn = random.choice(ratios, rounds) * random.choice((-1, 1), rounds)
        is_rate = figure.endswith("tokens_per_second")
        factor = 1 / slower if is_rate else 1.0 if "memory" in figure else slower
        ours[figure] = [100 * factor * exp(value) for value in drawn]
        theirs[figure] = [100.0] * rounds
    return regressed(judge(measurement(ours, theirs), [], {}))


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
    """It may hit one side alone, in up to three of twenty rounds on end."""
    random = np.random.default_rng(seed)
    ours = 10 * np.exp(random.normal(0, 0.05, 20))
    theirs = 10 * np.exp(random.normal(0, 0.05, 20))
    begin = random.integers(0, 20 - length)
    ours[begin : begin + length] *= burst
    found = measurement({FIRST: ours.tolist()}, {FIRST: theirs.tolist()})
    assert regressed(judge(found, [], {})) == []
