"""The file that keeps every measurement: whole lines or none, whatever the disk does."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipelines.regression.history import BASELINE_MOST, History, Record, judged
from runtime.errors import BenchmarkError
from runtime.settings import Settings
from tests.pipelines.measurements import measurement

FIGURE = "decode_short_tokens_per_second"


def record(rate: float = 100.0, *, other: float | None = None, accepted: bool = False) -> Record:
    theirs = None if other is None else {FIGURE: [other] * 8}
    return Record(
        model="planted",
        version=2,
        measurement=measurement({FIGURE: [rate] * 8}, theirs),
        accepted=accepted,
    )


@pytest.fixture
def history(settings: Settings) -> History:
    return History(settings, "planted")


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: what goes in goes in, the rest fails."""
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


def test_the_baseline_is_the_newest_good_records_of_the_same_machine(
    history: History, settings: Settings
) -> None:
    other = record()
    machine = msgspec.structs.replace(other.measurement.result.machine, processors=64)
    result = msgspec.structs.replace(other.measurement.result, machine=machine)
    moved = msgspec.structs.replace(other.measurement, result=result)
    history.append(msgspec.structs.replace(other, measurement=moved))
    assert history.baseline(record()) == []
    assert judged(record(70.0, other=100.0), settings).regressed
    for rate in range(BASELINE_MOST + 3):
        history.append(record(100.0 + rate))
    rates = [night.result.servers[0].figures[FIGURE][0] for night in history.baseline(record())]
    assert rates == [103.0 + rate for rate in range(BASELINE_MOST)]


def test_what_a_person_accepts_is_where_the_baseline_begins(
    history: History, settings: Settings
) -> None:
    for _ in range(3):
        judged(record(100.0), settings)
    assert judged(record(70.0), settings).regressed
    accepted = judged(record(70.0, accepted=True), settings)
    assert accepted.regressed == ()
    assert any(verdict.regressed for verdict in accepted.verdicts)
    assert len(history.baseline(record())) == 1
    assert judged(record(69.0), settings).regressed == ()
