"""Times a model's steps over a grid of tokens, rows and context, for the simulation."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from pipelines.benchmark.processor_time import ProcessorTime
from pipelines.benchmark.results import Machine
from pipelines.benchmark.routing_cost import measure_routing
from pipelines.benchmark.simulated import engine_ms_per_step
from pipelines.simulation.measured import Measured, MeasuredStep
from pipelines.simulation.step_fit import errors, fit
from runtime.manifest import Manifest
from runtime.session import Session
from runtime.settings import CPU_CACHE_TOKENS, Settings
from runtime.step import StepInputs

PROMPT_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
CONTEXT_PROMPT_TOKENS = (16, 256)
CONTEXTS = (1024, 4096)
ROWS = (2, 4, 8, 16, 32, 64)
SHORT = 64
"""Context of steps of many rows."""
ENGINE_ROWS = (1, 8, 32, 64)
ENGINE_STEPS = 64
ROUNDS = 15
NS_PER_MS = 1e6


def measure_steps(
    folder: Path, settings: Settings, progress: Callable[[str], None], *, rounds: int = ROUNDS
) -> Measured:
    """Measure in this process, each kind of step once in each round, and fit their times.

    Every page is written once before, since memory that was never written is read faster. Raises
    what a Session raises.
    """
    started_at, before = datetime.now(UTC).isoformat(timespec="seconds"), ProcessorTime.now()
    manifest = Manifest.read(folder)
    cache_tokens = settings.cache_tokens or CPU_CACHE_TOKENS
    session = Session(folder, settings=msgspec.structs.replace(settings, cache_tokens=cache_tokens))
    page_size, page_count = settings.page_size, session.page_count
    kinds = grid(
        min(manifest.context_length, cache_tokens), settings.token_budget, settings.max_batch_size
    )
    kinds = [kind for kind in kinds if step_inputs(*kind, page_size).page_table.size <= page_count]
    _write_pages(session, page_count, page_size, settings.token_budget)
    taken: list[list[float]] = [[] for _ in kinds]
    for number in range(rounds):
        progress(f"Measuring {len(kinds)} kinds of steps, {number + 1} of {rounds}")
        for kind, times in zip(kinds, taken, strict=True):
            inputs = step_inputs(*kind, page_size)
            session.run(inputs)  # binds arrays of this shape, as in a run of such steps
            began = time.perf_counter_ns()
            session.run(inputs)
            times.append((time.perf_counter_ns() - began) / NS_PER_MS)
    progress("Measuring the engine around a step")
    engine = [
        (rows, min(engine_ms_per_step(manifest, rows, ENGINE_STEPS)))
        for rows in ENGINE_ROWS
        if rows <= settings.max_batch_size
    ]
    steps = tuple(
        MeasuredStep(rows, tokens, start, tuple(round(ms, 4) for ms in times))
        for (rows, tokens, start), times in zip(kinds, taken, strict=True)
    )
    times_of_steps = fit(steps, engine)
    wrong = errors(times_of_steps, steps)
    machine = Machine.here()
    return Measured(
        model=manifest.name,
        processor=f"{machine.processor}, {machine.instruction_set}",
        threads=settings.thread_count,
        started_at=started_at,
        others_processor_share=round(ProcessorTime.now().others_share_since(before), 4),
        times=times_of_steps,
        typical_error=round(median(wrong), 4),
        largest_error=round(max(wrong), 4),
        steps=steps,
        routing=measure_routing(page_size),
    )


def _write_pages(session: Session, page_count: int, page_size: int, budget: int) -> None:
    """Compute prompts into all pages."""
    most = max(budget // page_size, 1)
    for first in range(0, page_count, most):
        pages = np.arange(first, min(first + most, page_count), dtype=np.int32)
        inputs = step_inputs(1, len(pages) * page_size, 0, page_size)
        session.run(replace(inputs, page_table=pages[None]))


def grid(context: int, budget: int, most_rows: int) -> list[tuple[int, int, int]]:
    """Return rows, tokens of each row and first position of every kind of step to measure."""
    prompts = [(1, tokens, 0) for tokens in PROMPT_TOKENS if tokens <= budget]
    late = [
        (1, tokens, start)
        for start in CONTEXTS
        for tokens in (1, *CONTEXT_PROMPT_TOKENS)
        if tokens <= budget
    ]
    many = [(rows, 1, start) for start in (SHORT, *CONTEXTS) for rows in ROWS if rows <= most_rows]
    return [kind for kind in (*prompts, *late, *many) if kind[1] + kind[2] <= context]


def step_inputs(rows: int, tokens: int, start: int, page_size: int) -> StepInputs:
    """Return a step of rows with pages of their own, each with the logits of its last token."""
    pages = -(-(start + tokens) // page_size)
    return StepInputs(
        token_ids=np.zeros(rows * tokens, np.int32),
        positions=np.tile(np.arange(start, start + tokens, dtype=np.int32), rows),
        row_starts=np.arange(rows + 1, dtype=np.int32) * tokens,
        page_table=np.arange(rows * pages, dtype=np.int32).reshape(rows, pages),
        logit_rows=np.arange(1, rows + 1, dtype=np.int32) * tokens - 1,
    )
