"""The file that keeps every measurement: whole lines or none, whatever the disk does."""

import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipelines.benchmark.history import History, Record, judged
from pipelines.benchmark.judge import Earlier, judge
from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.record_report import summary
from pipelines.benchmark.results import Samples
from runtime.errors import BenchmarkError
from runtime.settings import Settings
from tests.pipelines.measurements import measurement

FIGURE = "decode_short_tokens_per_second"


def record(
    rate: float = 100.0,
    *,
    other: float | None = None,
    accepted: bool = False,
    others_processor_share: float = 0.02,
) -> Record:
    theirs = None if other is None else {FIGURE: [other] * 8}
    return Record(
        model="planted",
        version=2,
        measurement=measurement(
            {FIGURE: [rate] * 8}, theirs, others_processor_share=others_processor_share
        ),
        accepted=accepted,
    )


def rates(nights: Sequence[Measurement]) -> list[float]:
    return [night.result.servers[0].figures[FIGURE][0] for night in nights]


@pytest.fixture
def history(settings: Settings) -> History:
    return History(settings, "planted")


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """Limit every file of this process to a number of bytes; writes beyond it fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_records_come_back_in_their_order(history: History) -> None:
    assert history.records() == []
    for rate in (100.0, 90.0):
        history.append(record(rate))
    assert history.records() == [record(100.0), record(90.0)]
    assert history.path.read_bytes().count(b"\n") == 2


def test_a_full_disk_is_said_and_leaves_the_file_as_it_was(history: History) -> None:
    history.append(record())
    before = history.path.read_bytes()
    with disk_full_at(len(before) + 100), pytest.raises(BenchmarkError, match=r"history\.jsonl"):
        history.append(record())
    assert history.path.read_bytes() == before
    history.append(record(90.0))
    assert len(history.records()) == 2


def test_a_line_that_was_cut_is_left_out_and_overwritten(history: History) -> None:
    history.append(record())
    whole = history.path.read_bytes()
    history.path.write_bytes(whole + whole[:1000])
    assert history.records() == [record()]
    history.append(record(90.0))
    assert history.records() == [record(), record(90.0)]


def test_a_line_that_is_no_record_is_named(history: History) -> None:
    history.append(record())
    history.path.write_bytes(b"{}\n" + history.path.read_bytes())
    with pytest.raises(BenchmarkError, match=r"history\.jsonl has a line that is no record"):
        history.records()


def test_processes_that_write_at_once_lose_nothing(history: History, settings: Settings) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.pipelines.test_regression_history import *\n"
        "for _ in range(20): History(Settings(home=Path(sys.argv[1])), 'planted').append(record())"
    )
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(settings.home)], cwd=root)
        for _ in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert history.records() == [record()] * 40


def test_nights_are_the_quiet_records_of_the_same_machine(
    history: History, settings: Settings
) -> None:
    other = record()
    machine = msgspec.structs.replace(other.measurement.result.machine, processors=64)
    result = msgspec.structs.replace(other.measurement.result, machine=machine)
    moved = msgspec.structs.replace(other.measurement, result=result)
    history.append(msgspec.structs.replace(other, measurement=moved))
    assert history.earlier(record()).nights == []
    history.append(record(55.0, others_processor_share=0.3))
    # One that was judged worse is looked at too: who was first is found anew each night.
    assert judged(record(70.0, other=100.0), settings).regressed
    history.append(record(101.0))
    assert rates(history.earlier(record()).nights) == [70.0, 101.0]


@pytest.mark.parametrize("share", [0.02, 0.12])
def test_what_a_person_accepts_is_where_the_nights_begin_however_busy_the_machine_was(
    history: History, settings: Settings, share: float
) -> None:
    for _ in range(10):
        judged(record(100.0), settings)
    assert judged(record(60.0), settings).regressed
    accepted = judged(record(60.0, accepted=True, others_processor_share=share), settings)
    assert accepted.regressed == ()
    assert "accepted, so this is the usual from now on" in summary(accepted)
    assert ("the nights that follow begin anew" in summary(accepted)) == (share > 0.1)
    assert rates(history.earlier(record()).nights) == ([60.0] if share < 0.1 else [])
    assert [judged(record(60.0), settings).regressed for _ in range(3)] == [()] * 3
    # And a further slow-down is a regression again.
    judged(record(60.0), settings)
    assert judged(record(30.0), settings).regressed


def test_what_a_person_accepts_beside_a_version_is_accepted_the_next_night(
    settings: Settings,
) -> None:
    assert judged(record(80.0, other=100.0), settings).regressed
    assert not judged(record(80.0, other=100.0, accepted=True), settings).regressed
    assert not judged(record(80.0, other=100.0), settings).regressed
    assert judged(record(60.0, other=100.0), settings).regressed


def test_a_slow_down_beside_a_version_stays_red_through_a_lucky_night(settings: Settings) -> None:
    assert judged(record(80.0, other=100.0), settings).regressed
    assert judged(record(92.0, other=100.0), settings).regressed
    assert not judged(record(99.0, other=100.0), settings).regressed
    assert not judged(record(92.0, other=100.0), settings).regressed


def test_a_record_is_found_by_when_it_was_measured(history: History) -> None:
    for hour, rate in ((3, 70.0), (4, 100.0)):
        found = measurement({FIGURE: [rate] * 8}, started_at=f"2026-01-02T0{hour}:00:00+00:00")
        history.append(Record(model="planted", version=2, measurement=found))
    assert rates([history.measured_at("2026-01-02T03:00:00+00:00").measurement]) == [70.0]
    with pytest.raises(BenchmarkError, match="no measurement of yesterday"):
        history.measured_at("yesterday")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_not_kept(history: History, value: float) -> None:
    with pytest.raises(BenchmarkError, match="decode_short_tokens_per_second"):
        history.append(record(value))
    assert history.records() == []
    with pytest.raises(BenchmarkError, match="came to"):
        Samples().add({FIGURE: value})
    with pytest.raises(BenchmarkError, match="came to"):
        Samples().add({}, {FIGURE: [1.0, value]})


def test_too_few_samples_are_called_not_judged() -> None:
    few = measurement({FIGURE: [50.0] * 2}, {FIGURE: [100.0] * 2}, speeds=(1.0, 1.0))
    verdicts = judge(few, Earlier(), {})
    told = summary(Record(model="planted", version=2, measurement=few, verdicts=verdicts))
    assert told == "not judged: every figure has too few samples"
    assert summary(record()).startswith("not judged: there is no version before")
