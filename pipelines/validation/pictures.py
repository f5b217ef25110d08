"""Plots of the checks' measurements. Each function returns a PNG."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.conversion.pictures import new_figure, png_of

COLOURS = ("#4a6fa5", "#c8102e", "#6b8e23", "#8e6bbf", "#c98a1b", "#4f9d9d", "#7a7a7a")
LEGEND: dict[str, Any] = {
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
    "ncols": 3,
    "fontsize": 8,
    "frameon": False,
    "columnspacing": 1.2,
}
"""Above the axes, where it covers nothing."""


def by_position(series: Mapping[str, Sequence[float]], limit: float) -> bytes:
    """Plot the KL divergence over the positions of a text, a line per way of computing it."""
    figure = new_figure()
    axes = figure.subplots()
    longest = max(map(len, series.values()))
    for (name, values), colour in zip(series.items(), COLOURS, strict=False):
        # Lines that coincide stay visible: the first is wider.
        width = 3.0 if colour == COLOURS[0] and len(series) > 1 else 1.2
        axes.plot(range(1, len(values) + 1), values, color=colour, lw=width, label=name)
    axes.axhline(limit, color="#7a7a7a", ls="--", lw=1, label="most that the mean may be")
    axes.set(xlabel="token", ylabel="KL divergence, nats", xlim=(1, max(2, longest)))
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(0, 2 * max(limit, *map(max, series.values())))
    axes.grid(alpha=0.3)
    axes.legend(**LEGEND)
    return png_of(figure)


def by_layer(alone: Sequence[float], inherited: Sequence[float], limit: float) -> bytes:
    """Error of each layer: of its worst operator alone, and of all up to its end."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure()
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
    return png_of(figure)
