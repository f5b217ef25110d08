"""Pictures in Dagster's metadata: small PNGs inside markdown, drawn for the width of its dialog."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#4a6fa5", "#c8102e", "#6b8e23", "#8e6bbf", "#c98a1b", "#4f9d9d", "#7a7a7a")
WIDTH, HEIGHT = 6.4, 3.0
DOTS_PER_INCH = 90
LEGEND: dict[str, Any] = {
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
    "ncols": 3,
    "fontsize": 8,
    "frameon": False,
    "columnspacing": 1.2,
}
"""Above the axes, where it hides nothing."""


def block_format_shares(sizes: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """A bar for each block format of a file: its share of the bytes."""
    figure = _figure(height=0.9 + 0.32 * len(sizes))
    axes = figure.subplots()
    total = sum(sizes.values())
    shares = [100 * size / total for size in sizes.values()]
    bars = axes.barh(list(sizes), shares, color=COLOURS[0])
    axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of the bytes, percent", xlim=(0, 115), xticks=range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    return _markdown(figure, "share of each block format")


def by_position(series: Mapping[str, Sequence[float]], limit: float) -> dg.MarkdownMetadataValue:
    """KL divergence over the positions of a text, a line a way of computing it."""
    figure = _figure()
    axes = figure.subplots()
    longest = max(map(len, series.values()))
    for (name, values), colour in zip(series.items(), COLOURS, strict=False):
        # Lines that lie on each other stay visible: the first is the wider.
        width = 3.0 if colour == COLOURS[0] and len(series) > 1 else 1.2
        axes.plot(range(1, len(values) + 1), values, color=colour, lw=width, label=name)
    axes.axhline(limit, color="#7a7a7a", ls="--", lw=1, label="most that the mean may be")
    axes.set(xlabel="token", ylabel="KL divergence, nats", xlim=(1, max(2, longest)))
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(0, 2 * max(limit, *map(max, series.values())))
    axes.grid(alpha=0.3)
    axes.legend(**LEGEND)
    return _markdown(figure, "divergence from the exact model at each token")


def by_layer(
    alone: Sequence[float], inherited: Sequence[float], limit: float
) -> dg.MarkdownMetadataValue:
    """Error of each layer: of its worst operator alone, and of all up to its end."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure()
    axes = figure.subplots()
    layers = range(len(alone))
    axes.bar(layers, [100 * each for each in alone], color=COLOURS[0], label="worst operator alone")
    axes.plot(
        layers,
        [100 * each for each in inherited],
        color=COLOURS[1],
        marker="o",
        ms=3,
        lw=1.2,
        label="end of the layer, with all before",
    )
    axes.axhline(100 * limit, color="#7a7a7a", ls="--", lw=1, label="most of an operator")
    axes.set(xlabel="layer", ylabel="relative error, percent")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(**LEGEND)
    return _markdown(figure, "error of each layer")


def _figure(height: float = HEIGHT) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")


def _markdown(figure: "Figure", alternative: str) -> dg.MarkdownMetadataValue:
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return in_markdown(file.getvalue(), alternative)


def in_markdown(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    """A picture as metadata, without a file."""
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{encoded})")
