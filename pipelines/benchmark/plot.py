"""Pictures of results. Each function writes one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
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
FAINT = 0.35
DOTS_PER_INCH = 110
INK = "#333333"
MORE, LESS = "tokens per second, more is better", "milliseconds, less is better"


@dataclass(frozen=True, slots=True)
class _Bars:
    """One panel: groups of bars, a bar for each server."""

    title: str
    unit: str
    groups: tuple[tuple[str, str], ...]
    """The label and the figure of each group."""
    upper: tuple[str, ...] = ()
    """The figure shown as each group's faint bar, if it has one."""


def plot_benchmark(result: BenchmarkResult, path: Path) -> None:
    """Throughput of one stream and of many, waiting times, and memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.6), layout="constrained")
    for axes, bars in zip(figure.subplots(2, 3).flat, _panels(result), strict=True):
        _draw_bars(axes, result, bars)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"{result.model}, {result.threads} threads, {result.started_at[:10]}",
        x=0.01,
        ha="left",
        weight="bold",
        color=INK,
    )
    figure.supxlabel(
        "Medians. A line shows the range of all rounds, a faint bar reaches the 95th percentile.",
        x=0.01,
        ha="left",
        size=9,
        color=INK,
    )
    save_picture(figure, path)


def _panels(result: BenchmarkResult) -> list[_Bars]:
    counts = result.plan.stream_counts

    def per_count(ending: str) -> tuple[tuple[str, str], ...]:
        return tuple((f"{n} stream{'s' if n > 1 else ''}", f"streams_{n}_{ending}") for n in counts)

    def p95(what: str) -> tuple[str, ...]:
        return tuple(f"streams_{n}_{what}_p95_ms" for n in counts)

    return [
        _Bars(
            "Prefill, one stream",
            MORE,
            ((f"{result.plan.long_prompt_tokens} tokens", "prefill_tokens_per_second"),),
        ),
        _Bars(
            "Decode, one stream",
            MORE,
            (
                ("short context", "decode_short_tokens_per_second"),
                ("long context", "decode_long_tokens_per_second"),
            ),
        ),
        _Bars("Output of all streams", MORE, per_count("tokens_per_second")),
        _Bars(
            "Time to first token",
            LESS,
            per_count("first_token_p50_ms"),
            p95("first_token"),
        ),
        _Bars(
            "Time between tokens",
            LESS,
            per_count("between_tokens_p50_ms"),
            p95("between_tokens"),
        ),
        _Bars(
            "Memory, mapped files included",
            "MB, less is better",
            (
                ("at start", "memory_start_total_mb"),
                (f"after {max(counts)} streams", "memory_loaded_total_mb"),
            ),
        ),
    ]


def _draw_bars(axes: "Axes", result: BenchmarkResult, bars: _Bars) -> None:
    width = 0.8 / len(result.servers)
    for index, server in enumerate(result.servers):
        shift = (index - (len(result.servers) - 1) / 2) * width
        places = [place + shift for place in range(len(bars.groups))]
        spreads = [Spread.of(server.figures[name]) for _, name in bars.groups]
        tops = [spread.median for spread in spreads]
        axes.bar(places, tops, width, label=server.name, color=_colour(index), zorder=2)
        if bars.upper:
            tops = [median(server.figures[name]) for name in bars.upper]
            axes.bar(places, tops, width, color=_colour(index), alpha=FAINT, zorder=1)
        else:
            axes.vlines(places, [s.lowest for s in spreads], [s.highest for s in spreads], INK)
        for place, top, spread in zip(places, tops, spreads, strict=True):
            values = (spread.median, top) if bars.upper else (spread.median,)
            axes.annotate(
                "\n".join(_short(value) for value in reversed(values)),
                (place, max(top, spread.highest)),
                (0, 3),
                textcoords="offset points",
                ha="center",
                size=8,
                color=INK,
            )
    axes.set_title(bars.title, loc="left", size=11, color=INK)
    axes.set_ylabel(bars.unit, color=INK)
    axes.set_xticks(range(len(bars.groups)), [label for label, _ in bars.groups])
    axes.set_xlim(-0.6, len(bars.groups) - 0.4)
    axes.margins(y=0.16)
    axes.tick_params(length=0, labelcolor=INK)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _short(value: float) -> str:
    """Format as whole numbers, except small ones."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


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
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(f"{result.model}, {result.threads} threads, {result.started_at[:10]}")
    save_picture(figure, path)


def _draw_curves(axes: "Axes", curves: Sequence[Curve], labels: Sequence[str] = ()) -> None:
    for index, curve in enumerate(curves):
        label = labels[index] if labels else curve.server
        medians = [median(samples) for samples in curve.samples]
        axes.plot(curve.x, medians, marker="o", ms=4, color=_colour(index), label=label)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH, pil_kwargs={"optimize": True})
