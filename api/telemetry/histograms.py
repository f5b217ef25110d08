"""Histograms of seconds by the value of one label."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics_core import HistogramMetricFamily

BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0),
)
"""Upper bounds of the buckets, in seconds."""


class Histograms:
    """A histogram for each value of a label. Any thread may call any method: a lock guards all."""

    def __init__(self) -> None:
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: str, seconds: Sequence[float] | NDArray[np.float64]) -> None:
        """Count durations [N] under a value of the label, which is there from then on."""
        measured = np.maximum(np.asarray(seconds, dtype=np.float64), 0.0)
        places = np.searchsorted(BOUNDS, measured, side="left")
        counts = np.bincount(places, minlength=len(BOUNDS) + 1)
        with self._lock:
            self._counts[value] = self._counts.get(value, 0) + counts
            self._sums[value] = self._sums.get(value, 0.0) + float(measured.sum())

    def family(self, name: str, documentation: str, label: str) -> HistogramMetricFamily:
        """Return all of them as one family of a scrape."""
        found = HistogramMetricFamily(name, f"{documentation} in seconds", labels=[label])
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        with self._lock:
            for value, counts in self._counts.items():
                buckets = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
                found.add_metric([value], buckets, self._sums[value])
        return found
