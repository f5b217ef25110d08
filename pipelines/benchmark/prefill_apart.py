"""Streams next to long prompts: one server, and two of which one computes the prompts."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from pipelines.benchmark.figures import percentile
from pipelines.benchmark.load import CompletionRequest, StreamRecord, complete
from pipelines.benchmark.results import Machine
from pipelines.benchmark.workloads import Prompts
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest
from runtime.server_process import Candidate, Capacity, rocmforge, started
from runtime.settings import PREFIX, Settings
from runtime.tokenizer import Tokenizer

STREAMS = 4
STREAM_PROMPT_TOKENS = 32
LONG_PROMPTS = 4
LONG_PROMPT_TOKENS = 2000
LONG_NEW_TOKENS = 2
ROUNDS = 4
DISK_BYTES = 1 << 40
SHARED_MEMORY = Path("/dev/shm")
ONE, TWO = "one process", "two processes"


class PrefillApartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    stream_new_tokens: int = 256
    long_prompt_tokens: int = LONG_PROMPT_TOKENS
    rounds: int = ROUNDS


class Round(msgspec.Struct, frozen=True):
    """One round: streams that generate, and long prompts that come with them. Milliseconds."""

    median_gap_ms: float
    """From a stream's token to its next, as its client sees them."""
    p95_gap_ms: float
    longest_gap_ms: float
    stream_ms: float
    """Until the last stream has ended."""
    first_token_ms: float
    """Of the long prompts, the mean."""


class PrefillApartResult(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of one run."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    """Of the one process; of the two each has half of them."""
    machine: Machine
    plan: PrefillApartPlan
    rounds: dict[str, tuple[Round, ...]]


def measure_prefill_apart(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None],
    *,
    plan: PrefillApartPlan | None = None,
) -> PrefillApartResult:
    """Measure servers of the model by turns, round by round.

    Raises ServerNotStarted, and BenchmarkError if one refuses a request.
    """
    plan = plan or PrefillApartPlan()
    manifest = Manifest.read(folder)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(manifest.weights_path(folder)))
    prompts = Prompts(tokenizer)
    whole = rocmforge(manifest.name, settings, "")
    halved = msgspec.structs.replace(settings, threads=max(settings.thread_count // 2, 1))
    half = rocmforge(manifest.name, halved, "")
    capacity = Capacity(STREAMS + LONG_PROMPTS, plan.long_prompt_tokens + LONG_NEW_TOKENS)
    rounds: dict[str, list[Round]] = {ONE: [], TWO: []}
    with ExitStack() as servers:
        pages = servers.enter_context(
            tempfile.TemporaryDirectory(
                prefix="rocmforge-kv-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
            )
        )
        progress("Starting three servers")
        one = servers.enter_context(started(whole, capacity))
        servers.enter_context(started(_with_role(half, "prefill", pages), capacity))
        two = servers.enter_context(started(_with_role(half, "decode", pages), capacity))
        for number in range(1 + plan.rounds):  # the first touches the memory
            for name, server in ((ONE, one), (TWO, two)):
                progress(f"Round {number} of {plan.rounds}, {name}")
                measured = _round(complete(server.url, _requests(prompts, plan)))
                if number:
                    rounds[name].append(measured)
    return PrefillApartResult(
        model=manifest.name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=settings.thread_count,
        machine=Machine.here(),
        plan=plan,
        rounds={name: tuple(each) for name, each in rounds.items()},
    )


def markdown(result: PrefillApartResult) -> str:
    """A table in Markdown: the medians over the rounds, in milliseconds."""
    lines = [
        f"| {STREAMS} streams beside {LONG_PROMPTS} prompts of {result.plan.long_prompt_tokens}"
        " tokens, ms | gap, median | p95 | longest | streams end after |"
        " long prompts, first token |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rounds in result.rounds.items():
        medians = [
            float(np.median([getattr(each, field) for each in rounds]))
            for field in Round.__struct_fields__
        ]
        lines.append(" | ".join([f"| {name}", *(f"{value:.1f}" for value in medians)]) + " |")
    return "\n".join(lines)


def _with_role(candidate: Candidate, role: str, pages: str) -> Candidate:
    given = {"role": role, "kv_disk_bytes": str(DISK_BYTES), "kv_disk_folder": pages}
    variables = tuple((PREFIX + name.upper(), value) for name, value in given.items())
    return replace(candidate, environment=(*candidate.environment, *variables))


def _requests(prompts: Prompts, plan: PrefillApartPlan) -> list[CompletionRequest]:
    streams = [
        CompletionRequest(prompts.next(STREAM_PROMPT_TOKENS), plan.stream_new_tokens)
        for _ in range(STREAMS)
    ]
    long = [
        CompletionRequest(prompts.next(plan.long_prompt_tokens), LONG_NEW_TOKENS)
        for _ in range(LONG_PROMPTS)
    ]
    return [*streams, *long]


def _round(records: Sequence[StreamRecord]) -> Round:
    streams, long = records[:STREAMS], records[STREAMS:]
    gaps = [gap for stream in streams for gap in _gaps_ms(stream)]
    return Round(
        median_gap_ms=float(np.median(gaps)),
        p95_gap_ms=percentile(gaps, 95),
        longest_gap_ms=max(gaps),
        stream_ms=max(each.event_ns[-1] - each.sent_ns for each in streams) / 1e6,
        first_token_ms=float(np.mean([each.event_ns[0] - each.sent_ns for each in long])) / 1e6,
    )


def _gaps_ms(stream: StreamRecord) -> Iterator[float]:
    return ((later - earlier) / 1e6 for earlier, later in pairwise(stream.event_ns))
