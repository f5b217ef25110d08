"""Pictures of a measurement and of those before it. Each function returns a PNG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

from pipelines.benchmark.figures import FigureKind, Spread
from pipelines.benchmark.history import Record
from pipelines.benchmark.judge import BASELINE, at_speed, machine_power
from pipelines.benchmark.results import ServerResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, OTHER, WORSE, USUAL, INK = "#c8102e", "#4a6fa5", "#c8102e", "#3b7d4f", "#2b3a42"
DOTS_PER_INCH = 100
WIDTH_INCHES = 9.6
"""The UI's dialog has 984 pixels in a window of 1280, and cuts wider pictures."""
COLUMNS = 3
PANEL_HEIGHT_INCHES = 2.3
FROM_PERCENT, FROM_MEDIANS = 10, 1 / 20
"""Start of a distribution: the shortest gaps are tokens that arrived in one read."""
MAX_NIGHTS = 60
"""The newest that a trend shows."""
TREND = (
    "Median and range of each night. Band: as usual; hollow: disturbed by other programs; "
    "red cross: failed the check"
)
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
}


def trend(records: Sequence[Record], kinds: Sequence[FigureKind]) -> bytes:
    """Each figure over the nights, in the band in which it is as usual; the last night is ours.

    Values of faster or slower days are scaled to the speed of the last.
    """
    *earlier, last = records
    nights = [record for record in earlier if record.is_like(last)]
    alike = [*nights[1 - MAX_NIGHTS :], last]
    with _drawn(len(kinds), f"{_title(last)}\n{TREND}") as panels:
        for axes, kind in zip(panels, kinds, strict=True):
            _draw_trend(axes, kind, alike)
    return panels.png


def latencies(record: Record) -> bytes:
    """The distributions of first-token and between-token times, next to the previous version's."""
    names = list(record.measurement.result.servers[0].latencies)
    with _drawn(len(names), f"{_title(record)}: share of times below", columns=2) as panels:
        for axes, name in zip(panels, names, strict=True):
            shortest: list[float] = []
            for server, colour in _coloured(record):
                times = server.latencies[name]
                axes.plot(times, range(101), color=colour, lw=1.8, label=server.name)
                shortest.append(max(times[FROM_PERCENT], median(times) * FROM_MEDIANS))
            for percent in (50, 95):
                axes.axhline(percent, color="#bbbbbb", lw=0.8, ls=":")
            axes.set_title(_latency_title(name))
            axes.set(xscale="log", xlabel="milliseconds", ylabel="percent", ylim=(0, 101))
            axes.set_xlim(left=max(min(shortest), 0.01) / 1.5)
            _plain_ticks(axes)
            axes.legend(loc="lower right")
    return panels.png


def throughput(record: Record) -> bytes:
    """Output over the number of streams, medians in the range of all rounds."""
    counts = list(record.measurement.result.plan.stream_counts)
    with _drawn(2, f"{_title(record)}: streams side by side", columns=2) as panels:
        output, each = panels
        for server, colour in _coloured(record):
            spreads = [Spread.of(server.figures[f"streams_{n}_tokens_per_second"]) for n in counts]
            _draw_spreads(output, counts, spreads, colour, server.name)
            per_stream = [
                Spread(s.median / n, s.lowest / n, s.highest / n)
                for s, n in zip(spreads, counts, strict=True)
            ]
            _draw_spreads(each, counts, per_stream, colour, server.name)
        output.set_title("Output of all streams")
        each.set_title("Output of each stream")
        for axes in (output, each):
            axes.set(xscale="log", xlabel="streams", ylabel="tokens per second")
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.legend()
    return panels.png


def _draw_trend(axes: "Axes", kind: FigureKind, records: Sequence[Record]) -> None:
    last = records[-1]
    nights = list(range(len(records)))
    values = [at_speed(kind, record.measurement, last.measurement.speed) for record in records]
    spreads = [Spread.of(samples) for samples in values]
    if (band := _band(kind, records)) is not None:
        reference, allowed = band
        axes.axhspan(reference / allowed, reference * allowed, color=USUAL, alpha=0.13, lw=0)
        axes.axhline(reference, color=USUAL, lw=1, alpha=0.7)
    axes.vlines(
        nights, [s.lowest for s in spreads], [s.highest for s in spreads], color="#9aa5b1", lw=1.2
    )
    axes.plot(nights, [s.median for s in spreads], color="#5b6770", lw=1, alpha=0.6)
    bad = {night for night in nights if _is_bad(records[night], kind.name)}
    for night, record in enumerate(records):
        axes.plot(
            night,
            spreads[night].median,
            marker="X" if night in bad else "o",
            ms=8 if night in bad else 4.5,
            color=WORSE if night in bad else INK,
            # A disturbed night is hollow: it is not compared with others.
            mfc=WORSE if night in bad else INK if record.measurement.is_quiet else "white",
            zorder=3,
        )
    axes.set_title(kind.title, fontsize=9)
    axes.set_ylabel(kind.unit)
    shown = nights[:: -max(1, ceil(len(nights) / 4))]
    axes.set_xticks(shown, [_day(records[night]) for night in shown])
    axes.set_xlim(-0.6, len(nights) - 0.4)
    axes.margins(y=0.2)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 0))
    axes.grid(axis="x", visible=False)


def _band(kind: FigureKind, records: Sequence[Record]) -> tuple[float, float] | None:
    """The usual and the times worse that are allowed, by the newest verdict against nights.

    Before the first baseline, by the version that the last was measured against.
    """
    speed = records[-1].measurement.speed
    for record in reversed(records):
        for verdict in record.verdicts:
            if verdict.figure == kind.name and verdict.against == BASELINE:
                faster = speed / record.measurement.speed
                return verdict.reference * faster ** machine_power(kind), verdict.allowed
    for verdict in records[-1].verdicts:
        if verdict.figure == kind.name:
            return verdict.reference, verdict.allowed
    return None


def _is_bad(record: Record, figure: str) -> bool:
    return any(verdict.figure == figure for verdict in record.regressed)


def _draw_spreads(
    axes: "Axes", x: Sequence[int], spreads: Sequence[Spread], colour: str, label: str
) -> None:
    axes.plot(x, [s.median for s in spreads], marker="o", ms=5, color=colour, label=label)
    lowest, highest = [s.lowest for s in spreads], [s.highest for s in spreads]
    axes.fill_between(x, lowest, highest, alpha=0.18, color=colour, lw=0)


def _coloured(record: Record) -> list[tuple[ServerResult, str]]:
    """Return the servers in drawing order, the last on top."""
    servers = record.measurement.result.servers
    return list(zip(servers, (OURS, OTHER), strict=False))[::-1]


class _Panels:
    """The panels of a picture, and the picture once it is drawn. Owned by one thread."""

    def __init__(self, figure: "Figure", axes: Sequence["Axes"]) -> None:
        self._figure = figure
        self._axes = axes
        self.png = b""

    def __iter__(self) -> Iterator["Axes"]:
        return iter(self._axes)

    def finish(self) -> None:
        buffer = BytesIO()
        self._figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
        self.png = buffer.getvalue()


@contextmanager
def _drawn(count: int, title: str, columns: int = COLUMNS) -> Iterator[_Panels]:
    """Yield `count` panels under a title; afterwards they are a PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = ceil(count / columns)
    height = rows * PANEL_HEIGHT_INCHES + 0.6
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in grid[count:]:
            unused.remove()
        panels = _Panels(figure, grid[:count])
        yield panels
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels.finish()


def _plain_ticks(axes: "Axes") -> None:
    """Format an axis' numbers without exponents, with few ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _latency_title(name: str) -> str:
    _, count, what = name.split("_", 2)
    kind = what.removesuffix("_ms").replace("_", " ")
    return f"{count} stream{'s' if count != '1' else ''}: {kind}"


def _title(record: Record) -> str:
    result = record.measurement.result
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    return f"{record.model}, version {record.version}, {threads}"


def _day(record: Record) -> str:
    started = datetime.fromisoformat(record.measurement.result.started_at)
    return f"{started:%d %b}"
