"""Pictures of a conversion and of its checks: small PNGs, as wide as Dagster's dialog shows."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR = "#4a6fa5"
WIDTH, HEIGHT = 6.4, 3.0
"""Inches."""
DOTS_PER_INCH = 90


def block_format_shares(sizes: Mapping[str, int]) -> bytes:
    """A bar for each block format of a file: its share of the bytes."""
    figure = new_figure(height=0.9 + 0.32 * len(sizes))
    axes = figure.subplots()
    total = sum(sizes.values())
    shares = [100 * size / total for size in sizes.values()]
    bars = axes.barh(list(sizes), shares, color=BAR)
    axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of the bytes, percent", xlim=(0, 115), xticks=range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def new_figure(height: float = HEIGHT) -> "Figure":
    """An empty figure of the usual width."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")


def png_of(figure: "Figure") -> bytes:
    """A figure as a PNG."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return file.getvalue()
