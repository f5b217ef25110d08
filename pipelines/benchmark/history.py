"""The history of measurements: an append-only file of JSON lines per model.

It is stored next to the results of `rocmforge bench` and outlives Dagster's instance.
"""

import fcntl
import os

import msgspec

from pipelines.benchmark.judge import BASELINE, Earlier, Verdict, judge
from pipelines.benchmark.measurement import Measurement
from runtime.errors import BenchmarkError
from runtime.finite_json import finite_json
from runtime.settings import Settings

READ_BYTES = 1 << 16


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement and how it was judged. Immutable."""

    model: str
    version: int
    """The published version that was judged."""
    measurement: Measurement
    verdicts: tuple[Verdict, ...] = ()
    accepted: bool = False
    """Whether a person said that this is the usual from now on, however it was judged.

    Nights before it count no longer. Beside another version it may stay as much worse as it was.
    """

    @property
    def regressed(self) -> tuple[Verdict, ...]:
        """The figures that fail; none if a person accepted the record."""
        return () if self.accepted else tuple(v for v in self.verdicts if v.regressed)

    def is_like(self, other: "Record") -> bool:
        """Whether the same was measured on the same machine, so that figures may be compared."""
        ours, theirs = self.measurement.result, other.measurement.result
        return (
            ours.weights_sha256 == theirs.weights_sha256
            and ours.threads == theirs.threads
            and ours.machine == theirs.machine
            and ours.plan == theirs.plan
        )


class History:
    """The records of one model. Safe for concurrent threads and processes."""

    def __init__(self, settings: Settings, model: str) -> None:
        self.path = settings.home / "benchmarks" / model / "history.jsonl"

    def records(self) -> list[Record]:
        """Return every record, the oldest first. Raises BenchmarkError if a line is no record.

        A last line without its end was being written when the machine stopped; it is left out.
        """
        try:
            *lines, _ = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        try:
            return [msgspec.json.decode(line, type=Record) for line in lines]
        except msgspec.DecodeError as error:
            raise BenchmarkError(
                f"{self.path} has a line that is no record of a measurement ({error}); remove it"
            ) from None

    def measured_at(self, started_at: str) -> Record:
        """The record of the measurement that began then. Raises BenchmarkError without one."""
        for record in reversed(self.records()):
            if record.measurement.result.started_at == started_at:
                return record
        raise BenchmarkError(
            f"{self.path} has no measurement of {started_at}; run benchmark_result again"
        )

    def earlier(self, record: Record) -> Earlier:
        """Return the records to judge a record by: earlier ones of the same on the same machine."""
        nights: list[Measurement] = []
        worse: set[tuple[str, str]] = set()
        accepted: dict[tuple[str, str], float] = {}
        for each in filter(record.is_like, self.records()):
            if each.accepted:
                nights.clear()
            if each.measurement.is_quiet:
                nights.append(each.measurement)
            for verdict in each.verdicts if each.version == record.version else ():
                compared = (verdict.figure, verdict.against)
                if verdict.against == BASELINE or verdict.times_worse is None:
                    continue
                if each.accepted:
                    accepted[compared] = verdict.times_worse.estimate
                if verdict.regressed and not each.accepted:
                    worse.add(compared)
                else:
                    worse.discard(compared)
        return Earlier(nights, frozenset(worse), accepted)

    def append(self, record: Record) -> None:
        """Append a record, whole and synced, or leave the file unchanged.

        Raises BenchmarkError if it cannot be written.
        """
        try:
            line = finite_json(record)
        except ValueError as error:
            raise BenchmarkError(f"the measurement is not kept: {error}") from None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append_line(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise BenchmarkError(
                f"the measurement cannot be kept in {self.path}: {error.strerror}; make room there "
                "and measure again"
            ) from None


def _append_line(descriptor: int, line: bytes) -> None:
    end = _end_of_lines(descriptor)
    try:
        os.ftruncate(descriptor, end)
        rest, at = memoryview(line + b"\n"), end
        while rest:
            written = os.pwrite(descriptor, rest, at)
            rest, at = rest[written:], at + written
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _end_of_lines(descriptor: int) -> int:
    """Return the offset after the last complete line; anything after it was cut."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(end - READ_BYTES, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def judged(record: Record, settings: Settings) -> Record:
    """Judge a record by the others of its model, and keep it. Raises as `History` does."""
    history = History(settings, record.model)
    verdicts = judge(record.measurement, history.earlier(record), settings.benchmark_allowed)
    record = msgspec.structs.replace(record, verdicts=verdicts)
    history.append(record)
    return record
