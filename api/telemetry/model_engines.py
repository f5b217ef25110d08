"""Metrics of the engines by model, under names of our own and those of vLLM's dashboards."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from api.telemetry.page_tiers import tier_families
from runtime.statistics import EngineStatistics


class Figure(NamedTuple):
    """A figure of an engine and its names, which get the prefixes `rocmforge_model_` and `vllm:`.

    Source of vLLM's: its documentation, "Metrics".
    """

    own: str
    vllm: str
    documentation: str
    of: Callable[[EngineStatistics], float]


GAUGES = (
    Figure("active_requests", "num_requests_running", "Requests that run now", lambda s: s.active),
    Figure("queue_length", "num_requests_waiting", "Requests that wait now", lambda s: s.queued),
    Figure(
        "cache_usage_ratio",
        "kv_cache_usage_perc",
        "Share of the cache pages that requests hold, 0 to 1",
        lambda s: s.cache_usage,
    ),
)
COUNTERS = (
    Figure(
        "generated_tokens",
        "generation_tokens",
        "Total number of tokens generated",
        lambda s: s.tokens_generated,
    ),
    Figure(
        "prefix_cache_queried_tokens",
        "prefix_cache_queries",
        "Total number of tokens looked for in the cache",
        lambda s: s.prefix_queried_tokens,
    ),
    Figure(
        "prefix_cache_hit_tokens",
        "prefix_cache_hits",
        "Total number of tokens found in the cache",
        lambda s: s.prefix_hit_tokens,
    ),
    Figure(
        "preemptions",
        "num_preemptions",
        "Total number of times a request gave its cache pages back",
        lambda s: s.preemptions,
    ),
    Figure(
        "drafted_tokens",
        "spec_decode_num_draft_tokens",
        "Total number of tokens guessed, from a request's own text or by its grammar",
        lambda s: s.drafted_tokens,
    ),
    Figure(
        "accepted_draft_tokens",
        "spec_decode_num_accepted_tokens",
        "Total number of guessed tokens that were right",
        lambda s: s.accepted_draft_tokens,
    ),
)


def engine_families(
    statistics: Mapping[str, EngineStatistics], page_size: int
) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """Yield the families of one scrape; none without a model. page_size: in tokens."""
    if not statistics:
        return
    for figure in (*GAUGES, *COUNTERS):
        kind = GaugeMetricFamily if figure in GAUGES else CounterMetricFamily
        for name, label in (
            (f"rocmforge_model_{figure.own}", "model"),
            (f"vllm:{figure.vllm}", "model_name"),
        ):
            family = kind(name, figure.documentation, labels=[label])
            for model, counts in statistics.items():
                family.add_metric([model], figure.of(counts))
            yield family
    yield from _cache_shapes(statistics, page_size)
    yield from tier_families(statistics)


def _cache_shapes(
    statistics: Mapping[str, EngineStatistics], page_size: int
) -> Iterator[GaugeMetricFamily]:
    """Yield the sizes of the KV caches of loaded models; vLLM has them as labels."""
    pages = GaugeMetricFamily("rocmforge_model_cache_pages", "Cache pages", labels=["model"])
    size = GaugeMetricFamily(
        "rocmforge_model_cache_page_tokens", "Tokens of a cache page", labels=["model"]
    )
    info = GaugeMetricFamily(
        "vllm:cache_config_info",
        "Size of the cache",
        labels=["model_name", "block_size", "num_gpu_blocks"],
    )
    for model, counts in statistics.items():
        if counts.pages_total:
            pages.add_metric([model], counts.pages_total)
            size.add_metric([model], page_size)
            info.add_metric([model, str(page_size), str(counts.pages_total)], 1)
    yield from (pages, size, info)
