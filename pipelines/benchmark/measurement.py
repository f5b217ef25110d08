"""The measurement for the judge: blocks of rounds, with the machine's speed in each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version as version_of
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import median

import msgspec

from pipelines.benchmark.calibration import float_operations_per_second, read_bytes_per_second
from pipelines.benchmark.results import BenchmarkResult, ServerResult, quantiles
from pipelines.benchmark.run import Progress, benchmark
from pipelines.benchmark.workloads import Plan
from runtime.files import locked
from runtime.gguf import GGUFFile
from runtime.loading import tokenizer_cache
from runtime.manifest import Manifest
from runtime.server_process import Candidate, rocmforge
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer

QUIET_SHARE = 0.1
"""Of all processors, by other programs."""
BLOCKS = 8
"""Each has server processes of its own, since figures vary from process to process."""
QUICK_BLOCKS = 4
BLOCK = Plan(
    short_new_tokens=64,
    long_new_tokens=32,
    stream_new_tokens=32,
    single_rounds=3,
    stream_rounds=2,
    starts=1,
)
"""One block. Eight of them give each figure of one stream 24 samples, of many streams 16."""


class Calibration(msgspec.Struct, frozen=True):
    """The machine's speed between two blocks."""

    read_bytes_per_second: float
    float_operations_per_second: float

    @classmethod
    def now(cls, threads: int) -> "Calibration":
        """Measured now, in about a second."""
        return cls(read_bytes_per_second(threads), float_operations_per_second(threads))

    @property
    def speed(self) -> float:
        """The machine's speed as one number: the geometric mean. Only its ratios mean anything."""
        return sqrt(self.read_bytes_per_second * self.float_operations_per_second)


class Measurement(msgspec.Struct, frozen=True):
    """One model, measured. Blocks are alike, so a figure's samples part evenly among them."""

    result: BenchmarkResult
    """All blocks in one. The first server is the version that is judged."""
    calibrations: tuple[Calibration, ...]
    """Before the first block and after each."""

    @property
    def blocks(self) -> int:
        """How many blocks were measured."""
        return len(self.calibrations) - 1

    @property
    def is_quiet(self) -> bool:
        """Whether other programs used so little that this can be compared with other nights."""
        return self.result.others_processor_share <= QUIET_SHARE

    @property
    def speed(self) -> float:
        """The machine's speed over all blocks."""
        return median(calibration.speed for calibration in self.calibrations)

    def speeds(self, samples: int) -> list[float]:
        """Return the machine's speed for each sample: the mean calibration around its block."""
        speeds = [calibration.speed for calibration in self.calibrations]
        around = [sqrt(before * after) for before, after in pairwise(speeds)]
        return [around[index * self.blocks // samples] for index in range(samples)]

    def in_blocks(self, samples: Sequence[float]) -> list[list[float]]:
        """Samples by the block in which they were taken; a block without any is left out."""
        blocks: dict[int, list[float]] = {}
        for index, sample in enumerate(samples):
            blocks.setdefault(index * self.blocks // len(samples), []).append(sample)
        return list(blocks.values())


def measure(
    candidates: Sequence[Candidate],
    folder: Path,
    settings: Settings,
    plan: Plan,
    blocks: int,
    progress: Progress,
) -> Measurement:
    """Measure the candidates side by side; `folder` is the prepared model of the first.

    Each block starts new servers, so that the luck of one process does not last, and
    changes which is asked first. Nothing else is measured on this machine meanwhile: a second
    measurement waits. Raises BenchmarkError if a server cannot be measured.
    """
    manifest = Manifest.read(folder)
    weights = GGUFFile.open(*manifest.weights_paths(folder))
    cache = tokenizer_cache(settings)
    tokenizer = Tokenizer.from_gguf(weights, cache)
    threads = settings.thread_count
    results: list[BenchmarkResult] = []
    with measuring_alone(settings):
        calibrations = [Calibration.now(threads)]
        for block in range(blocks):

            def report(title: str, done: int, parts: int, block: int = block) -> None:
                progress(f"block {block + 1}, {title}", block * parts + done, blocks * parts)

            forwards = block % 2 == 0
            result = benchmark(
                candidates if forwards else candidates[::-1],
                manifest,
                tokenizer,
                threads=threads,
                plan=plan,
                progress=report,
                started_before=block > 0,
            )
            servers = result.servers if forwards else result.servers[::-1]
            results.append(msgspec.structs.replace(result, servers=servers))
            calibrations.append(Calibration.now(threads))
    return Measurement(joined(results), tuple(calibrations))


def served_version(name: str, version: int, settings: Settings) -> Candidate:
    """Our server of one published version, whatever is published meanwhile."""
    candidate = rocmforge(f"{name}@{version}", settings, version_of("rocmforge"))
    return replace(candidate, name=f"version {version}")


def joined(results: Sequence[BenchmarkResult]) -> BenchmarkResult:
    """Concatenate the samples of several runs, which have the same servers in the same order."""
    first = results[0]
    servers = []
    for server, *rest in zip(*(result.servers for result in results), strict=True):
        parts = [server, *rest]
        figures = {
            name: tuple(sample for part in parts for sample in part.figures[name])
            for name in server.figures
        }
        # Every block has as many times as any other.
        latencies = {
            name: quantiles([time for part in parts for time in part.latencies[name]])
            for name in server.latencies
        }
        servers.append(ServerResult(server.name, server.version, figures, latencies))
    seconds = sum(result.seconds for result in results)

    def over_time(field: str) -> float:
        return float(sum(getattr(r, field) * r.seconds for r in results) / seconds)

    return msgspec.structs.replace(
        first,
        seconds=seconds,
        servers=tuple(servers),
        client_processor_share=over_time("client_processor_share"),
        others_processor_share=over_time("others_processor_share"),
    )


@contextmanager
def measuring_alone(settings: Settings) -> Iterator[None]:
    """Wait until no other process measures below this home folder, and lock the others out.

    Dagster's pool is not enough: the command line measures too.
    """
    with locked(settings.home / "benchmarks" / ".measuring"):
        yield
