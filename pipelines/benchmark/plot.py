"""Pictures of results. Each function writes one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.benchmark.figures import Spread
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
    axes.legend()
    axes.grid(axis="y", alpha=0.3)


def _draw_streams(axes: "Axes", result: BenchmarkResult, endings: Sequence[str]) -> None:
    counts = list(result.plan.stream_counts)
    for index, server in enumerate(result.servers):
        for ending, style in zip(endings, ("-", "--"), strict=False):
            spreads = [Spread.of(server.figures[f"streams_{n}_{ending}"]) for n in counts]
            draw_spreads(axes, counts, spreads, server.name, index, style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])


def draw_spreads(
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
