"""One benchmark: servers are started, measured side by side in rounds, and stopped."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.benchmark.load import complete
from pipelines.benchmark.processor_time import ProcessorTime
from pipelines.benchmark.results import BenchmarkResult, Machine, Samples, ServerResult
from pipelines.benchmark.workloads import Plan, Prompts, warm_up, workloads
from runtime.manifest import Manifest
from runtime.server_process import Candidate, Memory, started
from runtime.tokenizer import Tokenizer

BYTES_PER_MB = 1e6

Progress = Callable[[str, int, int], None]
"""Called with the part that begins, the number of parts done, and their total."""


@dataclass(slots=True)
class _Run:
    """The samples of a run that is under way. Owned by one thread."""

    progress: Progress
    parts: int
    samples: list[Samples]
    """Of each candidate, in their order: two of them may have one name."""
    done: int = 0
    processor_seconds: float = 0.0
    measured_seconds: float = 0.0

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """One part of the progress."""
        self.progress(title, self.done, self.parts)
        yield
        self.done += 1

    @contextmanager
    def client_time(self) -> Iterator[None]:
        """Count the processor time that the load client takes of the time that it measures."""
        processor, wall = time.process_time(), time.perf_counter()
        yield
        self.processor_seconds += time.process_time() - processor
        self.measured_seconds += time.perf_counter() - wall


def benchmark(
    candidates: Sequence[Candidate],
    manifest: Manifest,
    tokenizer: Tokenizer,
    *,
    threads: int,
    plan: Plan,
    progress: Progress,
    started_before: bool = False,
) -> BenchmarkResult:
    """Measure the candidates together: in each round, each gets the same requests in turn.

    Each is started once before its start is measured, unless it was `started_before`. The model of
    the first candidate is prepared already. Raises BenchmarkError if a server does not start or
    does not answer.
    """
    began, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    before = ProcessorTime.now()
    prompts = Prompts(tokenizer)
    rounds = sum(w.rounds for streams in plan.stream_counts for w in workloads(plan, streams))
    parts = len(candidates) * (plan.starts + len(plan.stream_counts) + rounds)
    run = _Run(progress, parts, [Samples() for _ in candidates])
    if not started_before:
        _start_once(candidates, plan)
    _measure_starts(run, candidates, plan)
    for streams in plan.stream_counts:
        _measure_streams(run, candidates, prompts, plan, streams)
    progress("done", parts, parts)
    return BenchmarkResult(
        model=manifest.name,
        weights_sha256=manifest.weights.sha256,
        started_at=started_at,
        seconds=time.monotonic() - began,
        threads=threads,
        machine=Machine.here(),
        plan=plan,
        servers=tuple(
            ServerResult(candidate.name, candidate.version, samples.frozen(), samples.quantiles())
            for candidate, samples in zip(candidates, run.samples, strict=True)
        ),
        client_processor_share=run.processor_seconds / run.measured_seconds,
        others_processor_share=ProcessorTime.now().others_share_since(before),
    )


def _start_once(candidates: Sequence[Candidate], plan: Plan) -> None:
    """Read files into the page cache, and make what is cached between starts."""
    for candidate in candidates:
        with started(candidate, plan.capacity(1)):
            pass


def _measure_starts(run: _Run, candidates: Sequence[Candidate], plan: Plan) -> None:
    capacity = plan.capacity(1)
    for _ in range(plan.starts):
        for candidate, samples in zip(candidates, run.samples, strict=True):
            with run.part(f"{candidate.name}: start"), started(candidate, capacity) as server:
                figures = {"start_seconds": server.start_seconds}
                samples.add(figures | _memory_figures("start", server.memory()))


def _measure_streams(
    run: _Run, candidates: Sequence[Candidate], prompts: Prompts, plan: Plan, streams: int
) -> None:
    with ExitStack() as stack:
        servers = []
        for candidate in candidates:
            with run.part(f"{candidate.name}: start for {streams}"):
                servers.append(stack.enter_context(started(candidate, plan.capacity(streams))))
                complete(servers[-1].url, warm_up(plan, prompts))
        for workload in workloads(plan, streams):
            for number in range(workload.rounds):
                requests = workload.requests(prompts)
                for server, samples in zip(servers, run.samples, strict=True):
                    name = server.candidate.name
                    title = f"{name}: {workload.title}, {number + 1} of {workload.rounds}"
                    with run.part(title), run.client_time():
                        found = workload.measure(server.url, requests)
                    samples.add(found.figures, found.latencies)
        if streams == max(plan.stream_counts):
            for server, samples in zip(servers, run.samples, strict=True):
                samples.add(_memory_figures("loaded", server.memory()))


def _memory_figures(when: str, memory: Memory) -> dict[str, float]:
    return {
        f"memory_{when}_anonymous_mb": memory.anonymous_bytes / BYTES_PER_MB,
        f"memory_{when}_total_mb": memory.total_bytes / BYTES_PER_MB,
    }
