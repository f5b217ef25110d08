"""`rocmforge bench` on the terminal: which servers are measured, a progress bar and the table."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.benchmark import record_report, report
from pipelines.benchmark.growth import GrowthPlan, measure_growth
from pipelines.benchmark.history import History, Record, judged
from pipelines.benchmark.measurement import BLOCKS, QUICK_BLOCKS
from pipelines.benchmark.operator_profile import markdown, profile_model
from pipelines.benchmark.peers import llama_cpp
from pipelines.benchmark.plot import plot_benchmark, plot_growth
from pipelines.benchmark.results import BenchmarkResult, saved_path, write_json
from pipelines.benchmark.run import Progress as Told
from pipelines.benchmark.run import benchmark
from pipelines.benchmark.task import expect_judgeable, task_of
from pipelines.benchmark.workloads import Plan
from rocmforge.model import prepared
from rocmforge.progress import shown
from runtime.errors import Regression
from runtime.gguf import GGUFFile
from runtime.loading import tokenizer_cache
from runtime.manifest import Manifest
from runtime.server_process import Candidate, rocmforge
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer

WIDTH_WITHOUT_TERMINAL = 220


class Benchmarked:
    """A prepared model and the servers that it is measured on. Immutable."""

    def __init__(
        self, model: str, settings: Settings, *, prompt_lookup: bool = False, peers: bool
    ) -> None:
        folder = prepared(model, settings)
        self.manifest = Manifest.read(folder)
        self.weights = self.manifest.weights_path(folder)
        self.folder = folder
        self.tokenizer = Tokenizer.from_gguf(GGUFFile.open(self.weights), tokenizer_cache(settings))
        ours = version("rocmforge")
        self.candidates: list[Candidate] = [rocmforge(model, settings, ours)]
        if prompt_lookup:
            self.candidates.append(rocmforge(model, settings, ours, prompt_lookup=True))
        if peers:
            self.candidates.append(llama_cpp(self.weights, settings.thread_count))


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
    subject = Benchmarked(model, settings, prompt_lookup=prompt_lookup, peers=peers)
    with progress_bar() as told:
        result = benchmark(
            subject.candidates,
            subject.manifest,
            subject.tokenizer,
            threads=settings.thread_count,
            plan=plan,
            progress=told,
        )
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
    subject = Benchmarked(model, settings, peers=peers)
    with progress_bar() as told:
        result = measure_growth(
            subject.candidates,
            subject.manifest,
            subject.tokenizer,
            threads=settings.thread_count,
            plan=GrowthPlan(),
            progress=told,
        )
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
    """Measure beside another version, show the verdicts, and keep them in the model's history.

    A GGUF is prepared first, where it was not yet. Raises Regression where a figure became worse
    and nobody accepts it.
    """
    blocks = QUICK_BLOCKS if quick else BLOCKS
    expect_judgeable(against, settings, blocks)
    prepared(model, settings)
    task = task_of(model, against, settings, blocks=blocks)
    with progress_bar() as told:
        measurement = task.measure(settings, told)
    measured = Record(
        model=task.model, version=task.version, measurement=measurement, accepted=accept
    )
    record = judged(measured, settings)
    table = Table(show_edge=False, header_style="bold")
    for column in record_report.COLUMNS:
        table.add_column(column)
    for row in record_report.rows(record, record.verdicts):
        table.add_row(*row)
    console_of(sys.stdout.isatty()).print(table)
    text = record_report.summary(record)
    print(f"Kept in {History(settings, task.model).path}")
    if record.regressed:
        raise Regression(text)
    print(text[0].upper() + text[1:])


def profile(model: str, settings: Settings, *, save: Path | None) -> None:
    """Show where a step's time goes, and keep it."""
    folder = prepared(model, settings)
    with shown() as said:
        result = profile_model(folder, settings, said)
    path = save or saved_path(settings, result.model, f"profile-{result.started_at}")
    write_json(result, path)
    print(markdown(result))
    print(f"Saved as {path}")


def show(result: BenchmarkResult) -> None:
    """Print the table, and under it what was measured where."""
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
    """Standard output; where that is no terminal, wide enough for the table."""
    return Console(highlight=False, width=None if terminal else WIDTH_WITHOUT_TERMINAL)


@contextmanager
def progress_bar() -> Iterator[Told]:
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
