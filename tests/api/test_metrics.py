"""The exposition, read back with Prometheus' own parser and compared with the document's."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.metrics import NO_STATISTICS, EngineMetrics, RequestDurations
from runtime.generation import FinishReason
from runtime.statistics import EngineStatistics
from tests.api.document import code_blocks
from tests.api.generations import ended

BUSY = replace(
    NO_STATISTICS,
    started=42,
    completed=38,
    failed=1,
    cancelled=2,
    active=1,
    tokens_generated=15234,
    tokens_per_second=32.5,
    prefix_hit_tokens=4096,
    preemptions=3,
    pages_used=128,
    pages_total=1024,
)


def exposition(
    statistics: EngineStatistics = NO_STATISTICS, durations: RequestDurations | None = None
) -> str:
    of_models = {} if statistics is NO_STATISTICS else {"tiny": statistics}
    return metrics_of(lambda: of_models, durations).exposition().decode()


def metrics_of(
    statistics: Callable[[], Mapping[str, EngineStatistics]],
    durations: RequestDurations | None = None,
    **further: Any,
) -> EngineMetrics:
    return EngineMetrics(
        statistics, durations or RequestDurations(), max_batch_size=64, page_size=16, **further
    )


def samples(text: str) -> dict[str, float]:
    """Value of each sample of the server; a bucket is named by its bound too."""
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.keys() <= {"le"}
    }


def test_names_order_help_types_and_buckets_are_those_of_the_document() -> None:
    documented = next(block for block in code_blocks("") if block.startswith("# HELP"))

    def shape(text: str) -> list[str]:
        lines = [line for line in text.splitlines() if line]
        return [line if line.startswith("#") else line.split()[0] for line in lines]

    assert shape(exposition()) == shape(documented)


def test_counts_and_gauges_are_the_engine_s_own() -> None:
    found = samples(exposition(BUSY))
    assert found["rocmforge_requests_started_total"] == 42
    assert found["rocmforge_requests_completed_total"] == 38
    assert found["rocmforge_requests_failed_total"] == 1
    assert found["rocmforge_requests_cancelled_total"] == 2
    assert found["rocmforge_active_requests"] == 1
    assert found["rocmforge_queue_length"] == 0
    assert found["rocmforge_tokens_generated_total"] == 15234
    assert found["rocmforge_tokens_per_second"] == 32.5
    assert found["rocmforge_prefix_cache_hit_tokens_total"] == 4096
    assert found["rocmforge_preemptions_total"] == 3
    assert found["rocmforge_cache_pages_used"] == 128
    assert found["rocmforge_cache_pages"] == 1024
    assert found["rocmforge_cache_usage_ratio"] == 0.125
    assert found["rocmforge_cache_page_tokens"] == 16
    assert found["rocmforge_max_batch_size"] == 64


def test_accepted_failures_of_checks_are_shown_only_where_there_are_some() -> None:
    assert "rocmforge_accepted_check" not in exposition()
    accepted = {"logits": 0.19, "served": None}
    metrics = metrics_of(lambda: {"tiny": BUSY}, accepted_checks=lambda: accepted)
    text = metrics.exposition().decode()
    assert 'rocmforge_accepted_check{check="logits"} 0.19\n' in text
    assert 'rocmforge_accepted_check{check="served"} NaN\n' in text


def test_whole_numbers_are_written_as_the_document_writes_them() -> None:
    lines = exposition(BUSY).splitlines()
    assert "rocmforge_requests_started_total 42" in lines
    assert 'rocmforge_ttft_seconds_bucket{le="1"} 0' in lines
    assert not any(re.search(r"\.0$", line) for line in lines)


def test_a_request_is_counted_in_the_bucket_of_each_phase() -> None:
    durations = RequestDurations()
    durations.finished(ended(queue=0.5, prefill=0.25, decode=2.0))
    found = samples(exposition(durations=durations))
    for name, seconds in (
        ("prefill_duration", 0.25),
        ("decode_duration", 2.0),
        ("total_duration", 2.75),
        ("ttft", 0.75),
    ):
        metric = f"rocmforge_{name}_seconds"
        assert found[f"{metric}_count"] == 1
        assert found[f"{metric}_sum"] == pytest.approx(seconds)
        bounds = ("0.001", "0.01", "0.1", "1", "10", "100", "+Inf")
        counts = [found[f"{metric}_bucket{bound}"] for bound in bounds]
        assert counts == [float(seconds <= float(bound)) for bound in bounds]


def test_a_request_cancelled_in_the_queue_counts_only_in_the_total() -> None:
    durations = RequestDurations()
    durations.finished(ended(reason=FinishReason.CANCELLED, tokens=(), queue=None, decode=1.0))
    found = samples(exposition(durations=durations))
    assert found["rocmforge_total_duration_seconds_count"] == 1
    assert found["rocmforge_prefill_duration_seconds_count"] == 0
    assert found["rocmforge_decode_duration_seconds_count"] == 0
    assert found["rocmforge_ttft_seconds_count"] == 0


def test_each_scrape_takes_one_snapshot() -> None:
    taken: list[EngineStatistics] = []

    def statistics() -> dict[str, EngineStatistics]:
        taken.append(NO_STATISTICS)
        return {"tiny": taken[-1]}

    metrics = metrics_of(statistics)
    assert len(taken) == 0
    metrics.exposition()
    assert len(taken) == 1
