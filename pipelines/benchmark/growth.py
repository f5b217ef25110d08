"""How cost grows: decode with the context, output with the streams, a step with the requests."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from pipelines.benchmark.figures import decode_tokens_per_second, streams_figures
from pipelines.benchmark.load import CompletionRequest, complete
from pipelines.benchmark.processor_time import ProcessorTime
from pipelines.benchmark.results import Machine
from pipelines.benchmark.run import Progress
from pipelines.benchmark.simulated import engine_ms_per_step, scheduler_ms_per_step
from pipelines.benchmark.workloads import Prompts
from runtime.manifest import Manifest
from runtime.server_process import Candidate, Capacity, started
from runtime.tokenizer import Tokenizer

DECODE = "decode_ms_per_token"
OUTPUT = "streams_tokens_per_second"
SCHEDULER = "scheduler_ms_per_step"
ENGINE = "engine_ms_per_step"


class GrowthPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The points that are measured."""

    contexts: tuple[int, ...] = (128, 512, 1024, 2048, 4096, 8000)
    context_new_tokens: int = 32
    context_rounds: int = 3
    streams: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    stream_prompt_tokens: int = 32
    stream_new_tokens: int = 64
    requests: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    steps: int = 64


class Curve(msgspec.Struct, frozen=True):
    """One line: `samples[i]` were measured at `x[i]`."""

    figure: str
    """The figure, with its unit."""
    server: str
    x: tuple[int, ...]
    samples: tuple[tuple[float, ...], ...]


class GrowthResult(msgspec.Struct, frozen=True, kw_only=True):
    """Every curve of one run."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    machine: Machine
    plan: GrowthPlan
    curves: tuple[Curve, ...]
    others_processor_share: float
    """Share of all processors that went to other programs."""

    def of(self, figure: str) -> list[Curve]:
        """The curves of one figure, ours first."""
        return [curve for curve in self.curves if curve.figure == figure]


def measure_growth(
    candidates: Sequence[Candidate],
    manifest: Manifest,
    tokenizer: Tokenizer,
    *,
    threads: int,
    plan: GrowthPlan,
    progress: Progress,
) -> GrowthResult:
    """Measure all curves; contexts that the model does not have are left out."""
    started_at, before = datetime.now(UTC).isoformat(timespec="seconds"), ProcessorTime.now()
    contexts = [c for c in plan.contexts if c + plan.context_new_tokens <= manifest.context_length]
    parts = len(candidates) * (len(contexts) + len(plan.streams)) + len(plan.requests)
    done = 0
    curves: list[Curve] = []

    def note(title: str) -> None:
        nonlocal done
        progress(title, done, parts)
        done += 1

    prompts = Prompts(tokenizer)
    for candidate in candidates:
        points = []
        for context, samples in _decode_points(candidate, prompts, contexts, plan):
            note(f"{candidate.name}: context of {context}")
            points.append(samples)
        curves.append(Curve(DECODE, candidate.name, tuple(contexts), tuple(points)))
    for candidate in candidates:
        rates = []
        for streams in plan.streams:
            note(f"{candidate.name}: {streams} streams")
            rates.append((_output_rate(candidate, prompts, streams, plan),))
        curves.append(Curve(OUTPUT, candidate.name, plan.streams, tuple(rates)))
    scheduler, engine = [], []
    for requests in plan.requests:
        note(f"scheduler: {requests} requests")
        scheduler.append(scheduler_ms_per_step(requests, plan.steps))
        engine.append(engine_ms_per_step(manifest, requests, plan.steps))
    ours = candidates[0].name
    curves.append(Curve(SCHEDULER, ours, plan.requests, tuple(scheduler)))
    curves.append(Curve(ENGINE, ours, plan.requests, tuple(engine)))
    progress("done", parts, parts)
    return GrowthResult(
        model=manifest.name,
        started_at=started_at,
        threads=threads,
        machine=Machine.here(),
        plan=plan,
        curves=tuple(curves),
        others_processor_share=ProcessorTime.now().others_share_since(before),
    )


def _decode_points(
    candidate: Candidate, prompts: Prompts, contexts: Sequence[int], plan: GrowthPlan
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(context, milliseconds a token in each round); one text, so a prefix is computed once."""
    longest = prompts.next(max(contexts))
    capacity = Capacity(streams=1, tokens_per_stream=max(contexts) + 2 * plan.context_new_tokens)
    with started(candidate, capacity) as server:
        for context in contexts:
            request = CompletionRequest(longest[:context], plan.context_new_tokens)
            # The first one computes the prompt; it is not counted.
            records = [complete(server.url, [request])[0] for _ in range(1 + plan.context_rounds)]
            yield context, tuple(1000 / decode_tokens_per_second(r) for r in records[1:])


def _output_rate(candidate: Candidate, prompts: Prompts, streams: int, plan: GrowthPlan) -> float:
    """Return output tokens per second of this many streams, on a server started for them."""
    tokens = 2 * (plan.stream_prompt_tokens + plan.stream_new_tokens)

    def requests() -> list[CompletionRequest]:
        return [
            CompletionRequest(prompts.next(plan.stream_prompt_tokens), plan.stream_new_tokens)
            for _ in range(streams)
        ]

    with started(candidate, Capacity(streams=streams, tokens_per_stream=tokens)) as server:
        complete(server.url, requests()[:1])
        figures = streams_figures(complete(server.url, requests()))
    return figures[f"streams_{streams}_tokens_per_second"]
