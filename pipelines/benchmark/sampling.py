"""What sampling costs: next tokens of many requests beside the step that computes their logits."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipelines.benchmark.figures import Rounds
from pipelines.benchmark.results import Machine
from pipelines.benchmark.workloads import Prompts
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest
from runtime.sampling import BreakerTable, Sampler, SamplingParameters, StepLogits, sample
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs
from runtime.tokenizer import Tokenizer

ROWS = (1, 32)
CONTEXT = 128
"""Tokens of each request's prompt, in which penalties and DRY look."""
ROUNDS = 40
KINDS = {
    "greedy": SamplingParameters(temperature=0.0),
    "temperature alone": SamplingParameters(top_k=0, top_p=1.0, seed=1),
    "top_p": SamplingParameters(temperature=0.8, top_k=0, top_p=0.9, seed=1),
    "top_k, top_p": SamplingParameters(temperature=0.8, top_k=50, top_p=0.9, seed=1),
    "all samplers": SamplingParameters(
        temperature=0.8,
        top_k=40,
        top_p=0.95,
        min_p=0.02,
        typical_p=0.95,
        top_n_sigma=4.0,
        xtc_probability=0.5,
        dynatemp_range=0.3,
        repetition_penalty=1.1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        dry_multiplier=0.8,
        logit_bias=((5, 1.0), (77, -3.0)),
        min_tokens=2**31 - 1,
        seed=1,
    ),
}


class SamplingCost(Rounds, frozen=True, kw_only=True):
    """Sampling of some rows, beside the decode step that computed their logits."""

    samplers: str
    rows: int


class SamplingResult(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements of one run."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    machine: Machine
    costs: tuple[SamplingCost, ...]


def measure_sampling(
    folder: Path, settings: Settings, progress: Callable[[str], None], *, rounds: int = ROUNDS
) -> SamplingResult:
    """Measure in this process, a step and the sampling of its logits by turns.

    Raises what a Session raises.
    """
    manifest = Manifest.read(folder)
    page_size = settings.page_size
    needed = max(ROWS) * -(-CONTEXT // page_size) * page_size
    cache_tokens = max(settings.cache_tokens, needed)
    session = Session(folder, settings=msgspec.structs.replace(settings, cache_tokens=cache_tokens))
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(manifest.weights_path(folder)))
    breakers = BreakerTable(tokenizer)
    prompts = Prompts(tokenizer)
    costs: list[SamplingCost] = []
    for rows in ROWS:
        texts = [prompts.next(CONTEXT) for _ in range(rows)]
        progress(f"Computing {rows} prompts")
        for text in range(rows):
            session.run(_inputs(texts, text, page_size))
        inputs = _next_inputs(texts, page_size)
        for name, parameters in KINDS.items():
            progress(f"Measuring {rows} rows, {name}")
            samplers = [
                Sampler(parameters.with_breakers(breakers), text, tokenizer.end_of_generation)
                for text in texts
            ]
            times = []
            for _ in range(rounds + 1):
                began = time.perf_counter_ns()
                values = session.run(inputs)
                middle = time.perf_counter_ns()
                logits = StepLogits(values)
                asked = [(sampler, logits, row) for row, sampler in enumerate(samplers)]
                for sampler, token in zip(samplers, sample(asked), strict=True):
                    if isinstance(token, BaseException):
                        raise token
                    sampler.accept(token)
                ended = time.perf_counter_ns()
                times.append(((middle - began) / 1e6, (ended - middle) / 1e6))
            steps, sampling = zip(*times[1:], strict=True)
            cost = SamplingCost(samplers=name, rows=rows, measured=sampling, beside=steps)
            costs.append(cost)
    return SamplingResult(
        model=manifest.name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=settings.thread_count,
        machine=Machine.here(),
        costs=tuple(costs),
    )


def _inputs(texts: Sequence[Sequence[int]], row: int, page_size: int) -> StepInputs:
    """Compute the prompt of a row, all but its last token."""
    count = len(texts[row]) - 1
    return StepInputs(
        token_ids=np.array(texts[row][:-1], np.int32),
        positions=np.arange(count, dtype=np.int32),
        row_starts=np.array([0, count], np.int32),
        page_table=_page_table(texts, page_size)[row : row + 1],
        logit_rows=np.array([count - 1], np.int32),
    )


def _next_inputs(texts: Sequence[Sequence[int]], page_size: int) -> StepInputs:
    """Compute the last token of each prompt, and the logits behind it."""
    rows = np.arange(len(texts) + 1, dtype=np.int32)
    return StepInputs(
        token_ids=np.array([text[-1] for text in texts], np.int32),
        positions=np.array([len(text) - 1 for text in texts], np.int32),
        row_starts=rows,
        page_table=_page_table(texts, page_size),
        logit_rows=rows[:-1],
    )


def _page_table(texts: Sequence[Sequence[int]], page_size: int) -> NDArray[np.int32]:
    """Pages of its own for each prompt."""
    pages = -(-CONTEXT // page_size)
    return np.arange(len(texts) * pages, dtype=np.int32).reshape(len(texts), pages)


def markdown(result: SamplingResult) -> str:
    """Return the table of a page."""
    lines = [
        "| rows | samplers | step, ms | sampling, ms | of a step | median of rounds |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for cost in result.costs:
        lines.append(
            f"| {cost.rows} | {cost.samplers} | {min(cost.beside):.1f} | {min(cost.measured):.2f} |"
            f" {cost.ratio:.1%} | {cost.median_ratio:.1%} |"
        )
    return "\n".join(lines)
