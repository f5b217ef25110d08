"""The Prometheus metrics: counts from the engine's own statistics, durations from each request."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from api.telemetry.model_engines import engine_families
from runtime.generation import Generation
from runtime.statistics import EngineStatistics

BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Upper bounds of the histograms' buckets, in seconds."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NANOSECONDS = 1e9
WHOLE_VALUE = re.compile(rb"\.0$", re.MULTILINE)

NO_STATISTICS = EngineStatistics(
    started=0,
    completed=0,
    failed=0,
    cancelled=0,
    active=0,
    queued=0,
    tokens_generated=0,
    tokens_per_second=0.0,
    pages_used=0,
    pages_total=0,
    active_sequences=0,
    preemptions=0,
    prefix_queried_tokens=0,
    prefix_hit_tokens=0,
    drafted_tokens=0,
    accepted_draft_tokens=0,
    steps=0,
)
"""Counts without an engine."""


class RequestDurations:
    """Histograms of the phases of ended requests. The engine's thread writes, any thread reads."""

    def __init__(self) -> None:
        self.prefill = _histogram("rocmforge_prefill_duration_seconds", "Prefill phase duration")
        self.decode = _histogram("rocmforge_decode_duration_seconds", "Decode phase duration")
        self.total = _histogram("rocmforge_total_duration_seconds", "Total inference duration")
        self.first_token = _histogram("rocmforge_ttft_seconds", "Time to first token")

    def finished(self, generation: Generation) -> None:
        """Count the phases that an ended request went through."""
        timings = generation.timings
        if timings.finished_ns is None:
            raise ValueError("the request has not ended")
        _observe(self.total, timings.submitted_ns, timings.finished_ns)
        if timings.started_ns is not None and timings.first_token_ns is not None:
            _observe(self.first_token, timings.submitted_ns, timings.first_token_ns)
            _observe(self.prefill, timings.started_ns, timings.first_token_ns)
            _observe(self.decode, timings.first_token_ns, timings.finished_ns)


class EngineMetrics(Collector):
    """Every metric: the server's in the document's order, then those by model and by key.

    One snapshot a scrape, so that started = completed + failed + cancelled + active + queued.
    """

    def __init__(
        self,
        statistics: Callable[[], Mapping[str, EngineStatistics]],
        durations: RequestDurations,
        *,
        max_batch_size: int,
        page_size: int,
        further: Sequence[Collector] = (),
        accepted_checks: Callable[[], Mapping[str, float | None]] = dict,
    ) -> None:
        """statistics: of all engines of each model. further: what follows in a scrape."""
        self._statistics = statistics
        self._durations = durations
        self._max_batch_size = max_batch_size
        self._page_size = page_size
        self._accepted_checks = accepted_checks
        self._registry = CollectorRegistry()
        for collector in (self, *further):
            self._registry.register(collector)

    def describe(self) -> list[Metric]:
        """Return nothing: registering needs no engine."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one scrape."""
        by_model = self._statistics()
        now = sum(by_model.values(), start=NO_STATISTICS)
        durations = self._durations
        requests = "Total number of inference requests"
        yield _counter("rocmforge_requests_started", f"{requests} started", now.started)
        yield _counter("rocmforge_requests_completed", f"{requests} completed", now.completed)
        yield _counter("rocmforge_requests_failed", f"{requests} failed", now.failed)
        yield _counter("rocmforge_requests_cancelled", f"{requests} cancelled", now.cancelled)
        yield _counter(
            "rocmforge_tokens_generated", "Total number of tokens generated", now.tokens_generated
        )
        yield _snapshot(durations.prefill)
        yield _snapshot(durations.decode)
        yield _snapshot(durations.total)
        yield GaugeMetricFamily(
            "rocmforge_queue_length", "Current number of requests in queue", now.queued
        )
        yield GaugeMetricFamily(
            "rocmforge_active_requests", "Current number of active requests", now.active
        )
        yield _snapshot(durations.first_token)
        yield GaugeMetricFamily(
            "rocmforge_tokens_per_second", "Tokens generated per second", now.tokens_per_second
        )
        yield _counter(
            "rocmforge_prefix_cache_hit_tokens",
            "Total number of tokens whose keys and values were found in the cache",
            now.prefix_hit_tokens,
        )
        yield _counter(
            "rocmforge_preemptions",
            "Total number of times a request gave its cache pages back to be computed again",
            now.preemptions,
        )
        yield GaugeMetricFamily(
            "rocmforge_cache_pages_used", "Cache pages held by requests", now.pages_used
        )
        yield GaugeMetricFamily("rocmforge_cache_pages", "Number of cache pages", now.pages_total)
        yield GaugeMetricFamily(
            "rocmforge_cache_usage_ratio",
            "Share of the cache pages that requests hold, 0 to 1",
            now.cache_usage,
        )
        yield GaugeMetricFamily(
            "rocmforge_cache_page_tokens", "Tokens of a cache page", self._page_size
        )
        yield GaugeMetricFamily(
            "rocmforge_max_batch_size",
            "Maximum number of requests computed together",
            self._max_batch_size,
        )
        if accepted := self._accepted_checks():
            family = GaugeMetricFamily(
                "rocmforge_accepted_check",
                "What a failed check measured in spite of which the model was published",
                labels=["check"],
            )
            for name, measured in accepted.items():
                family.add_metric([name], math.nan if measured is None else measured)
            yield family
        yield from engine_families(by_model, self._page_size)

    def exposition(self) -> bytes:
        """Return the Prometheus text of one scrape, with whole numbers as such."""
        return WHOLE_VALUE.sub(b"", generate_latest(self._registry))


def _histogram(name: str, documentation: str) -> Histogram:
    return Histogram(name, f"{documentation} in seconds", buckets=BUCKETS, registry=None)


def _observe(histogram: Histogram, start_ns: int, end_ns: int) -> None:
    # The wall clock may be set back between two readings.
    histogram.observe(max(0, end_ns - start_ns) / NANOSECONDS)


def _counter(name: str, documentation: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value=value)


def _snapshot(histogram: Histogram) -> Metric:
    """The histogram as the document writes it: bounds such as "1", the sum before the count."""
    (collected,) = histogram.collect()
    family = Metric(collected.name, collected.documentation, collected.type)
    for suffix in ("_bucket", "_sum", "_count"):
        for sample in collected.samples:
            if sample.name.endswith(suffix):
                labels = {name: _bound(bound) for name, bound in sample.labels.items()}
                family.add_sample(sample.name, labels, sample.value)
    return family


def _bound(label: str) -> str:
    return label if label == "+Inf" else f"{float(label):g}"
