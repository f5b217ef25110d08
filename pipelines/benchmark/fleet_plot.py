"""Pictures of simulated fleets. Each function writes one PNG."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.benchmark.plot import COLOURS, INK, save_picture
from pipelines.simulation.figures import Figures
from pipelines.simulation.routers import ROUTERS
from pipelines.simulation.runs import Result, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#888888"
Of = Callable[[Figures], float]
X = Callable[[Run], float]


def plot_fleets(sizes: Sequence[Result], loads: Sequence[Result], title: str, path: Path) -> None:
    """Hits, waiting and balance over a fleet's size, and waiting over its load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    hits, first, balance, load = figure.subplots(2, 2).flat
    _draw(hits, sizes, lambda run: run.replicas, lambda f: 100 * f.hit_rate)
    hits.set(title="Prompt tokens found in the cache", ylabel="percent", ylim=(0, 100))
    _draw(first, sizes, lambda run: run.replicas, lambda f: f.first_token_p95_ms / 1000)
    first.set(title="Time to first token, 95th percentile", ylabel="seconds", yscale="log")
    _draw(balance, sizes, lambda run: run.replicas, lambda f: f.busiest)
    balance.set(title="Busy time of the busiest replica", ylabel="times the mean", ylim=(0, None))
    for axes in (hits, first, balance):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({result.run.replicas for result in sizes}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("replicas, with as much traffic for each")
    _draw(
        load, loads, lambda run: run.traffic.chats_per_second, lambda f: f.first_token_p95_ms / 1000
    )
    replicas = loads[0].run.replicas
    load.set(
        title=f"Time to first token, 95th percentile, {replicas} replicas",
        xlabel="chats that begin, per second and replica",
        ylabel="seconds",
        yscale="log",
    )
    for axes in (first, load):
        axes.yaxis.set_major_formatter("{x:g}")
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set(size=10, color=INK)
    handles, labels = hits.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)
    save_picture(figure, path)


def _draw(axes: "Axes", results: Sequence[Result], x: X, y: Of) -> None:
    """Draw a line for each router that is among the results."""
    for name, colour in zip(reversed(ROUTERS), (*COLOURS, GREY), strict=True):
        points = [(x(r.run), y(r.figures)) for r in results if r.run.router == name]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", ms=4, color=colour, label=name)
