"""`rocmforge simulate` on the terminal: tables, files, and the page of the documented runs."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import msgspec

from pipelines.benchmark.fleet_plot import plot_fleets
from pipelines.benchmark.processor_time import ProcessorTime
from pipelines.benchmark.results import saved_path, write_json
from pipelines.benchmark.step_timing import measure_steps
from pipelines.benchmark.trace_replay import play
from pipelines.simulation.chats import Trace, read_trace
from pipelines.simulation.figures import Figures, Played
from pipelines.simulation.fleet import EVENT_DELAY_MS
from pipelines.simulation.limits import Replica
from pipelines.simulation.measured import SAMPLE_MODEL, Measured
from pipelines.simulation.report import (
    limits_part,
    measured_table,
    results_table,
    validation_part,
    with_part,
)
from pipelines.simulation.routers import PREFIX_AWARE, PREFIX_WEIGHT, ROUND_ROBIN, ROUTERS
from pipelines.simulation.runs import (
    SIZES,
    Result,
    Run,
    by_delay,
    by_load,
    by_size,
    by_weight,
    run_one,
)
from pipelines.simulation.traffic import Traffic, draw
from rocmforge.model import prepared
from rocmforge.progress import Shown, shown
from runtime.errors import InvalidTrace, SettingsError
from runtime.manifest import Manifest
from runtime.server_process import Capacity, rocmforge, started
from runtime.settings import CPU_CACHE_TOKENS, Settings

VALIDATION = Traffic(chats=24, chats_per_second=0.5, systems=6)
"""Chats of the comparison with a server: about a minute."""


def traffic_of(given: Mapping[str, object]) -> Traffic:
    """Return the traffic with these fields, where they are given. Raises SettingsError."""
    fields = {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert(fields, Traffic)
    except msgspec.ValidationError as error:
        raise SettingsError(f"there are no such chats: {error}") from None


def simulate(
    settings: Settings,
    traffic: Traffic,
    *,
    replicas: Sequence[int] | None,
    routers: Sequence[str] | None,
    trace: Path | None,
    event_delay_ms: int | None,
    prefix_weight: float | None,
    times: Path | None,
    save: Path | None,
) -> None:
    """Print the table of the runs over the size of a fleet, and save them where asked."""
    for name in routers or ():
        if name not in ROUTERS:
            raise SettingsError(f"--router takes {', '.join(ROUTERS)}, not {name}")
    if any(count < 1 for count in replicas or ()):
        raise SettingsError("--replicas takes whole numbers from 1")
    if (event_delay_ms or 0) < 0:
        raise SettingsError("--event-delay-ms takes a whole number from 0")
    if (prefix_weight or 0) < 0 or not isfinite(prefix_weight or 0):
        raise SettingsError("--prefix-weight takes a number from 0")
    scored = {
        "event_delay_ms": EVENT_DELAY_MS if event_delay_ms is None else event_delay_ms,
        "prefix_weight": PREFIX_WEIGHT if prefix_weight is None else prefix_weight,
    }
    runs = [
        msgspec.structs.replace(run, **scored)
        for run in by_size(traffic, replicas or SIZES)
        if run.router in (routers or ROUTERS)
    ]
    measured = Measured.read(times or SAMPLE_MODEL)
    chats = None if trace is None else read_trace(trace)
    with shown() as progress:
        results = _all(runs, settings, measured, progress, chats)
    print(results_table(results), end="")
    if save is not None:
        write_json(Results(results=tuple(results)), save)
        print(f"Saved as {save}")


class Results(msgspec.Struct, frozen=True):
    """What `--save` writes."""

    results: tuple[Result, ...]


class Compared(msgspec.Struct, frozen=True):
    """What `--validate` writes."""

    measured: Played
    simulated: Figures
    others_processor_share: float


def measure(model: str, settings: Settings, *, save: Path | None) -> None:
    """Measure the times of a model's steps and of the router, and save them."""
    folder = prepared(model, settings)
    with shown() as progress:
        measured = measure_steps(folder, settings, progress)
    path = save or saved_path(settings, measured.model, f"steps-{measured.started_at}")
    write_json(measured, path)
    print(
        f"{len(measured.steps)} kinds of steps; the fitted times differ by "
        f"{measured.typical_error:.1%} (median) to {measured.largest_error:.1%}; other programs "
        f"took {measured.others_processor_share:.1%} of the processors"
    )
    print(f"Saved as {path}")


def validate(
    model: str,
    settings: Settings,
    traffic: Traffic,
    *,
    trace: Path | None,
    times: Path | None,
    page: Path | None,
    save: Path | None,
) -> None:
    """Play chats on a server of a model, and print its figures beside the simulated ones."""
    measured = Measured.read(times or SAMPLE_MODEL)
    folder = prepared(model, settings)
    manifest = Manifest.read(folder)
    if trace is not None:
        chats = read_trace(trace)
    else:
        chats = draw(VALIDATION if traffic == Traffic() else traffic, 1)
    if (longest := max(chat.tokens for chat in chats)) > manifest.context_length:
        raise InvalidTrace(
            f"a chat has {longest} tokens and {manifest.name} a context of "
            f"{manifest.context_length}; validate with another model"
        )
    candidate = rocmforge(model, settings, version("rocmforge"))
    with shown() as progress:
        progress(f"Simulating {len(chats)} chats")
        run = Run(replicas=1, router=ROUND_ROBIN)
        simulated = run_one(run, settings, measured.times, chats).figures
        progress(f"Playing {len(chats)} chats on a server")
        before = ProcessorTime.now()
        with started(candidate, Capacity(len(chats), longest)) as server:
            live = play(server.url, chats, manifest.vocabulary_size)
        others_share = ProcessorTime.now().others_share_since(before)
    result = Compared(live, simulated, others_share)
    table = validation_part(live, simulated, others_share)
    print(table, end="")
    if page is not None:
        page.write_text(with_part(page.read_text(), "validation", table))
        print(f"Written to {page}")
    if save is not None:
        write_json(result, save)
        print(f"Saved as {save}")


def document(page: Path, settings: Settings, *, times: Path | None) -> None:
    """Write the tables of the documented runs into a page, and their picture beside it."""
    measured = Measured.read(times or SAMPLE_MODEL)
    with shown() as progress:
        sizes = _all(by_size(Traffic()), settings, measured, progress)
        loads = _all(by_load(), settings, measured, progress)
        delays = _all(by_delay(), settings, measured, progress)
        weights = _all(by_weight(), settings, measured, progress)
    largest = next(
        r for r in sizes if r.run.replicas == max(SIZES) and r.run.router == PREFIX_AWARE
    )
    pages = (settings.cache_tokens or CPU_CACHE_TOKENS) // settings.page_size
    traffic = largest.run.traffic
    turns = largest.figures.requests / (traffic.chats * largest.run.replicas)
    rate = turns * traffic.chats_per_second
    each = Replica.of(largest.figures, rate, settings.page_size, pages)
    text = page.read_text()
    for name, table in {
        "times": measured_table(measured),
        "sizes": results_table(sizes),
        "loads": results_table(loads),
        "delays": results_table(delays),
        "weights": results_table(weights),
        "limits": limits_part(each, measured.routing),
    }.items():
        text = with_part(text, name, table)
    page.write_text(text)
    picture = page.with_suffix(".png")
    plot_fleets(sizes, loads, f"{measured.model}, {measured.threads} threads a replica", picture)
    print(f"Written to {page} and {picture}")


def _all(
    runs: Iterable[Run],
    settings: Settings,
    measured: Measured,
    progress: Shown,
    chats: Trace | None = None,
) -> list[Result]:
    results = []
    for run in runs:
        progress(f"Simulating {run}")
        results.append(run_one(run, settings, measured.times, chats))
    return results
