"""Pictures of results. Each function writes one PNG."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pipelines.benchmark.figures import Spread
from pipelines.benchmark.growth import (
    DECODE,
    ENGINE,
    OUTPUT,
    SCHEDULER,
    Curve,
    GrowthResult,
)
from pipelines.benchmark.results import BenchmarkResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#c8102e", "#4a6fa5", "#6b8e23", "#8e6bbf")
"""Ours, then the peers in turn."""
DOTS_PER_INCH = 110
RATES = {
    "prefill_tokens_per_second": "prefill",
    "decode_short_tokens_per_second": "decode,\nshort context",
    "decode_long_tokens_per_second": "decode,\nlong context",
}


def plot_benchmark(result: BenchmarkResult, path: Path) -> None:
    """One stream's rates, then throughput and latencies over the number of streams."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    rates, output, first, between = figure.subplots(2, 2).flat
    _draw_rates(rates, result)
    _draw_streams(output, result, ("tokens_per_second",))
    output.set(title="Output of all streams", ylabel="tokens per second")
    _draw_streams(first, result, ("first_token_p50_ms", "first_token_p95_ms"))
    first.set(title="Time to first token, p50 and p95 (dashed)", ylabel="milliseconds")
    _draw_streams(between, result, ("between_tokens_p50_ms", "between_tokens_p95_ms"))
    between.set(title="Time between tokens, p50 and p95 (dashed)", ylabel="milliseconds")
    for axes in (output, first, between):
        axes.set_xlabel("streams side by side")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"{result.model}, {result.threads} threads, {result.started_at[:10]}: medians, and the "
        "range of all rounds"
    )
    _save(figure, path)


def _draw_rates(axes: "Axes", result: BenchmarkResult) -> None:
    names = [name for name in RATES if name in result.servers[0].figures]
    width = 0.8 / len(result.servers)
    for index, server in enumerate(result.servers):
        spreads = [Spread.of(server.figures[name]) for name in names]
        shift = (index - (len(result.servers) - 1) / 2) * width
        places = [place + shift for place in range(len(names))]
        medians = [spread.median for spread in spreads]
        bars = axes.bar(
            places,
            medians,
            width,
            yerr=[
                [spread.median - spread.lowest for spread in spreads],
                [spread.highest - spread.median for spread in spreads],
            ],
            label=server.name,
            color=_colour(index),
            error_kw={"alpha": 0.5},
        )
        axes.bar_label(bars, [f"{value:,.0f}" for value in medians], fontsize=8, padding=2)
    axes.set(title="One stream", ylabel="tokens per second")
    axes.set_xticks(range(len(names)), [RATES[name] for name in names])
    axes.margins(y=0.15)
    axes.legend()
    axes.grid(axis="y", alpha=0.3)


def _draw_streams(axes: "Axes", result: BenchmarkResult, endings: Sequence[str]) -> None:
    counts = list(result.plan.stream_counts)
    for index, server in enumerate(result.servers):
        for ending, style in zip(endings, ("-", "--"), strict=False):
            spreads = [Spread.of(server.figures[f"streams_{n}_{ending}"]) for n in counts]
            _draw_spreads(axes, counts, spreads, server.name, index, style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])


def plot_growth(result: GrowthResult, path: Path) -> None:
    """Decode over context, output over streams, and the engine's own time over requests."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.6), layout="constrained")
    decode, output, steps = figure.subplots(1, 3)
    _draw_curves(decode, result.of(DECODE))
    decode.set(title="Decode, one stream", xlabel="tokens of context", ylabel="ms per token")
    _draw_curves(output, result.of(OUTPUT))
    output.set(title="Output of all streams", xlabel="streams", ylabel="tokens per second")
    scheduler, engine = result.of(SCHEDULER), result.of(ENGINE)
    _draw_curves(steps, [*scheduler, *engine], ["scheduler", "engine with sampling"])
    steps.set(
        title="A step around the model", xlabel="requests that run", ylabel="ms per step, median"
    )
    for axes in (decode, output, steps):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"{result.model}, {result.threads} threads, {result.started_at[:10]}")
    _save(figure, path)


def _draw_curves(axes: "Axes", curves: Sequence[Curve], labels: Sequence[str] = ()) -> None:
    for index, curve in enumerate(curves):
        label = labels[index] if labels else curve.server
        medians = [median(samples) for samples in curve.samples]
        axes.plot(curve.x, medians, marker="o", ms=4, color=_colour(index), label=label)


def _draw_spreads(
    axes: "Axes", x: Sequence[int], spreads: Sequence[Spread], label: str, index: int, style: str
) -> None:
    """A line through the medians in a band from lowest to highest."""
    colour = _colour(index)
    axes.plot(x, [s.median for s in spreads], style, marker="o", ms=4, color=colour, label=label)
    axes.fill_between(
        x, [s.lowest for s in spreads], [s.highest for s in spreads], alpha=0.15, color=colour, lw=0
    )


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH)
