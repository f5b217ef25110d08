"""Metrics of the KV-cache pages that are kept beyond the pool, by model."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from runtime.statistics import EngineStatistics, PageTierCounts


class Figure(NamedTuple):
    """A counter by the value of a label; its name gets the prefix `rocmforge_model_kv_`."""

    name: str
    documentation: str
    label: str
    of: Mapping[str, Callable[[PageTierCounts], float]]


TOTALS: tuple[tuple[str, str, Callable[[PageTierCounts], float]], ...] = (
    (
        "prompts_handed_over",
        "Total number of prompts that another process computed",
        lambda counts: counts.prompts_handed_over,
    ),
    (
        "kv_uncopied_pages",
        "Total number of pages that left the cache with too many others to be copied",
        lambda counts: counts.uncopied_pages,
    ),
)
COUNTERS = (
    Figure(
        "tier_hit_pages",
        "Total number of pages that came back into the cache",
        "tier",
        {"ram": lambda counts: counts.ram_hit_pages, "disk": lambda counts: counts.disk_hit_pages},
    ),
    Figure(
        "tier_dropped_pages",
        "Total number of pages that made room for others in RAM, or were too many to be written",
        "tier",
        {
            "ram": lambda counts: counts.ram_dropped_pages,
            "disk": lambda counts: counts.disk_dropped_pages,
        },
    ),
    Figure(
        "tier_damaged_pages",
        "Total number of files that did not hold the page of their name",
        "tier",
        {"disk": lambda counts: counts.disk_damaged_pages},
    ),
    Figure(
        "tier_written_bytes",
        "Total number of bytes of pages written",
        "tier",
        {"disk": lambda counts: counts.disk_written_bytes},
    ),
    Figure(
        "copied_bytes",
        "Total number of bytes of pages that left the cache for further tiers, or came from them",
        "direction",
        {"out": lambda counts: counts.copied_bytes, "in": lambda counts: counts.restored_bytes},
    ),
    Figure(
        "copy_seconds",
        "Total number of seconds between steps in which they were copied",
        "direction",
        {"out": lambda counts: counts.copy_seconds, "in": lambda counts: counts.restore_seconds},
    ),
)


def tier_families(
    statistics: Mapping[str, EngineStatistics],
) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """Yield the families of one scrape."""
    held = GaugeMetricFamily(
        "rocmforge_model_kv_ram_bytes", "Bytes of pages in RAM beyond the cache", labels=["model"]
    )
    for model, counts in statistics.items():
        held.add_metric([model], counts.tiers.ram_bytes)
    yield held
    for name, documentation, of in TOTALS:
        total = CounterMetricFamily(f"rocmforge_model_{name}", documentation, labels=["model"])
        for model, counts in statistics.items():
            total.add_metric([model], of(counts.tiers))
        yield total
    for figure in COUNTERS:
        family = CounterMetricFamily(
            f"rocmforge_model_kv_{figure.name}",
            figure.documentation,
            labels=["model", figure.label],
        )
        for model, counts in statistics.items():
            for value, of in figure.of.items():
                family.add_metric([model, value], of(counts.tiers))
        yield family
