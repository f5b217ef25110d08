"""The saved result of a benchmark. Immutable; names contain the units."""

import os
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path

import msgspec
import numpy as np

from pipelines.benchmark.figures import FigureKind, figure_kinds
from pipelines.benchmark.workloads import Plan
from runtime.errors import BenchmarkError
from runtime.files import write_whole
from runtime.finite_json import finite_json
from runtime.ops.library import instruction_set
from runtime.settings import Settings


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    processor: str
    processors: int
    instruction_set: str
    """That of our operators."""
    memory_bytes: int

    @classmethod
    def here(cls) -> "Machine":
        """This machine now."""
        cpuinfo = Path("/proc/cpuinfo").read_text()
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.splitlines()
            if line.startswith("model name")
        ]
        return cls(
            processor=names[0] if names else "unknown",
            processors=len(os.sched_getaffinity(0)),
            instruction_set=instruction_set(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )


class ServerResult(msgspec.Struct, frozen=True):
    """Samples of one server: `figures[name][i]` is from round i."""

    name: str
    version: str
    figures: dict[str, tuple[float, ...]]
    latencies: dict[str, tuple[float, ...]] = {}
    """The 0th to the 100th percentile of single times in milliseconds, over all rounds."""


class BenchmarkResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The first server is ours; the others were measured with it, round by round."""

    model: str
    weights_sha256: str
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    threads: int
    machine: Machine
    plan: Plan
    servers: tuple[ServerResult, ...]
    client_processor_share: float
    """Processor time of the load client over the time that it measured."""
    others_processor_share: float
    """Share of all processors that went to other programs; much of it spoils every figure."""

    def kinds(self) -> tuple[FigureKind, ...]:
        """The figures that were measured, in the order of the table."""
        measured = self.servers[0].figures
        kinds = figure_kinds(self.plan.stream_counts)
        return tuple(kind for kind in kinds if kind.name in measured)

    @classmethod
    def read(cls, path: Path) -> "BenchmarkResult":
        """Read a saved result. Raises BenchmarkError for another file."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.DecodeError as error:
            raise BenchmarkError(f"{path} is not a benchmark's result: {error}") from None


class Samples:
    """Collects figures round by round. Owned by one thread."""

    def __init__(self) -> None:
        self._figures: dict[str, list[float]] = {}
        self._latencies: dict[str, list[float]] = {}

    def add(
        self, figures: Mapping[str, float], latencies: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Add one round's figures and single times.

        Raises BenchmarkError for a value that is not finite: it could be neither saved nor judged.
        """
        for name, value in figures.items():
            _expect_finite(name, (value,))
            self._figures.setdefault(name, []).append(value)
        for name, values in (latencies or {}).items():
            _expect_finite(name, values)
            self._latencies.setdefault(name, []).extend(values)

    def frozen(self) -> dict[str, tuple[float, ...]]:
        """All that was added."""
        return {name: tuple(values) for name, values in self._figures.items()}

    def quantiles(self) -> dict[str, tuple[float, ...]]:
        """The 0th to the 100th percentile of the single times."""
        return {name: quantiles(values) for name, values in self._latencies.items()}


def _expect_finite(name: str, values: Iterable[float]) -> None:
    for value in values:
        if not isfinite(value):
            raise BenchmarkError(f"{name} came to {value}; measure again")


def quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """The 0th to the 100th percentile of at least one value."""
    return tuple(np.percentile(values, np.arange(101)).tolist())


def write_json(result: msgspec.Struct, path: Path) -> None:
    """Save a result as JSON, whole or not at all.

    Raises BenchmarkError if a number in it is not finite.
    """
    try:
        encoded = finite_json(result)
    except ValueError as error:
        raise BenchmarkError(f"the result is not saved: {error}") from None
    write_whole(path, msgspec.json.format(encoded, indent=2) + b"\n")


def saved_path(settings: Settings, model: str, started_at: str) -> Path:
    """Where a result is kept by default."""
    return settings.home / "benchmarks" / model / f"{started_at.replace(':', '')}.json"
