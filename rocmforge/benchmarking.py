"""`rocmforge bench` on the terminal: a progress bar, tables, and where the results are."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.benchmark import record_report, report
from pipelines.benchmark.bench import Subject, measure_against
from pipelines.benchmark.history import History
from pipelines.benchmark.measurement import BLOCKS, QUICK_BLOCKS
from pipelines.benchmark.operator_profile import ModelProfile, markdown, profile_model
from pipelines.benchmark.plot import plot_benchmark, plot_growth
from pipelines.benchmark.prefill_apart import PrefillApartResult, measure_prefill_apart
from pipelines.benchmark.prefill_apart import markdown as prefill_apart_report
from pipelines.benchmark.results import BenchmarkResult, saved_path, write_json
from pipelines.benchmark.run import Progress as Report
from pipelines.benchmark.sampling import SamplingResult, measure_sampling
from pipelines.benchmark.sampling import markdown as sampling_report
from pipelines.benchmark.structured import StructuredResult, measure_structured
from pipelines.benchmark.structured import markdown as structured_report
from pipelines.benchmark.task import expect_judgeable
from pipelines.benchmark.warm_restart import WarmRestartResult, measure_warm_restart
from pipelines.benchmark.warm_restart import markdown as warm_restart_report
from pipelines.benchmark.workloads import Plan
from rocmforge.model import prepared
from rocmforge.progress import shown
from runtime.errors import Regression
from runtime.settings import Settings

Measured = TypeVar(
    "Measured",
    ModelProfile,
    SamplingResult,
    StructuredResult,
    WarmRestartResult,
    PrefillApartResult,
)

WIDTH_WITHOUT_TERMINAL = 220


def bench(
    model: str,
    settings: Settings,
    plan: Plan,
    *,
    prompt_lookup: bool,
    peers: bool,
    save: Path | None,
    plot: Path | None,
) -> None:
    """Measure, show the table, and keep the result."""
    folder = prepared(model, settings)
    subject = Subject(model, folder, settings, prompt_lookup=prompt_lookup, peers=peers)
    with progress_bar() as progress:
        result = subject.benchmark(plan, progress)
    path = save or saved_path(settings, result.model, result.started_at)
    write_json(result, path)
    show(result)
    print(f"Saved as {path}")
    if plot is not None:
        plot_benchmark(result, plot)
        print(f"Drawn in {plot}")


def grow(
    model: str, settings: Settings, *, peers: bool, save: Path | None, plot: Path | None
) -> None:
    """Measure how cost grows, keep the curves and draw them."""
    subject = Subject(model, prepared(model, settings), settings, peers=peers)
    with progress_bar() as progress:
        result = subject.growth(progress)
    path = save or saved_path(settings, result.model, f"growth-{result.started_at}")
    write_json(result, path)
    for curve in result.curves:
        points = zip(curve.x, map(median, curve.samples), strict=True)
        print(curve.server, curve.figure, *(f"{x}: {value:.3g}" for x, value in points), sep="  ")
    print(f"Saved as {path}")
    plot = plot or path.with_suffix(".png")
    plot_growth(result, plot)
    print(f"Drawn in {plot}")


def judge(model: str, settings: Settings, *, against: str, quick: bool, accept: bool) -> None:
    """Measure against another version, print the verdicts, and add them to the model's history.

    A GGUF is prepared first, where it was not yet. Raises Regression where a figure became worse
    and nobody accepts it.
    """
    blocks = QUICK_BLOCKS if quick else BLOCKS
    expect_judgeable(against, settings, blocks)
    prepared(model, settings)
    with progress_bar() as progress:
        record = measure_against(model, against, settings, progress, blocks=blocks, accepted=accept)
    table = Table(show_edge=False, header_style="bold")
    for column in record_report.COLUMNS:
        table.add_column(column)
    for row in record_report.rows(record, record.verdicts):
        table.add_row(*row)
    console_of(sys.stdout.isatty()).print(table)
    text = record_report.summary(record)
    print(f"Kept in {History(settings, record.model).path}")
    if record.regressed:
        raise Regression(text)
    print(text[0].upper() + text[1:])


def profile(model: str, settings: Settings, *, save: Path | None) -> None:
    """Print where a step's time goes, and save it."""
    _in_this_process("profile", profile_model, markdown, model, settings, save)


def structured(model: str, settings: Settings, *, save: Path | None) -> None:
    """Print what structured output costs, and save it."""
    _in_this_process("structured", measure_structured, structured_report, model, settings, save)


def sampling(model: str, settings: Settings, *, save: Path | None) -> None:
    """Print what sampling costs, and save it."""
    _in_this_process("sampling", measure_sampling, sampling_report, model, settings, save)


def warm_restart(model: str, settings: Settings, *, save: Path | None) -> None:
    """Print what pages on disk save after a restart, and save it."""
    _in_this_process(
        "warm-restart", measure_warm_restart, warm_restart_report, model, settings, save
    )


def prefill_apart(model: str, settings: Settings, *, save: Path | None) -> None:
    """Print what a process of its own for prompts gains and costs, and save it."""
    _in_this_process(
        "prefill-apart", measure_prefill_apart, prefill_apart_report, model, settings, save
    )


def _in_this_process(
    kind: str,
    measure: Callable[[Path, Settings, Callable[[str], None]], Measured],
    report: Callable[[Measured], str],
    model: str,
    settings: Settings,
    save: Path | None,
) -> None:
    """Measure without a server, print the report, and save the result under its kind."""
    folder = prepared(model, settings)
    with shown() as progress:
        result = measure(folder, settings, progress)
    path = save or saved_path(settings, result.model, f"{kind}-{result.started_at}")
    write_json(result, path)
    print(report(result))
    print(f"Saved as {path}")


def show(result: BenchmarkResult) -> None:
    """Print the table, and below it what was measured on which machine."""
    table = Table(show_edge=False, header_style="bold")
    first, *others = report.headings(result)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    for row in report.rows(result):
        table.add_row(*row)
    console = console_of(sys.stdout.isatty())
    console.print(table)
    console.print(report.summary(result), style="dim")


def console_of(terminal: bool) -> Console:
    """Return standard output; if it is no terminal, wide enough for the table."""
    return Console(highlight=False, width=None if terminal else WIDTH_WITHOUT_TERMINAL)


@contextmanager
def progress_bar() -> Iterator[Report]:
    """A bar on a terminal's stderr; a line for each part elsewhere."""
    if not sys.stderr.isatty():
        yield lambda title, done, parts: print(f"{done}/{parts} {title}", file=sys.stderr)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda title, done, parts: progress.update(
            task, description=title, completed=done, total=parts
        )
