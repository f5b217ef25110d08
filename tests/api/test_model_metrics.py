"""The metrics by model, by API key and of embedding requests, as Prometheus' parser reads them."""

from array import array
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from api.errors import ClientGone
from api.telemetry.embedding_requests import EmbeddingRequests
from api.telemetry.histograms import BOUNDS
from api.telemetry.key_tokens import OTHERS, KeyTokens
from api.telemetry.metrics import NO_STATISTICS
from api.telemetry.model_engines import engine_families
from api.telemetry.model_requests import ModelRequests
from api.telemetry.request_context import RequestContext
from runtime.generation import FinishReason, Generation
from runtime.statistics import PageTierCounts
from tests.api.generations import SECOND, ended


class Found:
    """Samples by name and the values of their labels, in whatever order."""

    def __init__(self, *collectors: Collector) -> None:
        registry = CollectorRegistry()
        for collector in collectors:
            registry.register(collector)
        self._values = {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
        }

    def __getitem__(self, name_and_labels: tuple[str, ...]) -> float:
        name, *labels = name_and_labels
        return self._values[name, frozenset(labels)]

    def __contains__(self, name_and_labels: tuple[str, ...]) -> bool:
        name, *labels = name_and_labels
        return (name, frozenset(labels)) in self._values

    def __len__(self) -> int:
        return len(self._values)


def of_model(name: str, *, key: str | None = None, **fields: Any) -> Generation:
    return ended(context=RequestContext(name, key), **fields)


class Engines(Collector):
    """The families of engines with these counts."""

    def __init__(self, **counts: float | PageTierCounts) -> None:
        self._statistics = {"a": replace(NO_STATISTICS, **counts)}  # type: ignore[arg-type]

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Any:
        return engine_families(self._statistics, 16)


@pytest.mark.parametrize(
    ("own", "vllm", "seconds"),
    [
        ("ttft_seconds", "time_to_first_token_seconds", 0.75),
        ("queue_duration_seconds", "request_queue_time_seconds", 0.5),
        ("prefill_duration_seconds", "request_prefill_time_seconds", 0.25),
        ("decode_duration_seconds", "request_decode_time_seconds", 2.0),
        ("total_duration_seconds", "e2e_request_latency_seconds", 2.75),
    ],
)
def test_each_phase_is_a_histogram_by_model_under_both_names(
    own: str, vllm: str, seconds: float
) -> None:
    requests = ModelRequests()
    requests.finished(of_model("a", queue=0.5, prefill=0.25, decode=2.0))
    requests.finished(of_model("b", queue=None, tokens=(), reason=FinishReason.CANCELLED))
    samples = Found(requests)
    for name in (f"rocmforge_model_{own}", f"vllm:{vllm}"):
        assert samples[f"{name}_count", "a"] == 1
        assert samples[f"{name}_sum", "a"] == pytest.approx(seconds)
        assert samples[f"{name}_count", "b"] == (own == "total_duration_seconds")
        for bound in BOUNDS:
            assert samples[f"{name}_bucket", "a", f"{bound:g}"] == (seconds <= bound)


def test_the_time_from_token_to_token_is_counted_for_each() -> None:
    generation = of_model("a", tokens=(1, 2, 3, 4))
    generation.token_times_ns = array("q", [SECOND, SECOND, 3 * SECOND, 3 * SECOND + SECOND // 100])
    requests = ModelRequests()
    requests.finished(generation)
    samples = Found(requests)
    for name in ("rocmforge_model_inter_token_seconds", "vllm:inter_token_latency_seconds"):
        assert samples[f"{name}_count", "a"] == 3
        assert samples[f"{name}_sum", "a"] == pytest.approx(2.01)
        assert samples[f"{name}_bucket", "a", "0.001"] == 1
        assert samples[f"{name}_bucket", "a", "0.01"] == 2


def test_ends_are_counted_by_reason_in_the_words_of_both() -> None:
    requests = ModelRequests()
    for reason in FinishReason:
        requests.finished(of_model("a", reason=reason))
    samples = Found(requests)
    for reason in FinishReason:
        assert samples["rocmforge_model_requests_total", "a", reason] == 1
    expected = {"stop": 2, "length": 1, "abort": 1, "error": 1}
    for name, count in expected.items():
        assert samples["vllm:request_success_total", "a", name] == count
    assert samples["vllm:prompt_tokens_total", "a"] == 3 * len(FinishReason)


def test_an_engine_s_counts_are_there_under_both_names() -> None:
    samples = Found(
        Engines(
            active=2,
            queued=1,
            pages_used=3,
            pages_total=4,
            prefix_queried_tokens=50,
            prefix_hit_tokens=32,
            drafted_tokens=9,
            accepted_draft_tokens=6,
        )
    )
    for own, vllm, value in (
        ("active_requests", "num_requests_running", 2),
        ("queue_length", "num_requests_waiting", 1),
        ("cache_usage_ratio", "kv_cache_usage_perc", 0.75),
        ("prefix_cache_queried_tokens_total", "prefix_cache_queries_total", 50),
        ("prefix_cache_hit_tokens_total", "prefix_cache_hits_total", 32),
        ("drafted_tokens_total", "spec_decode_num_draft_tokens_total", 9),
        ("accepted_draft_tokens_total", "spec_decode_num_accepted_tokens_total", 6),
    ):
        assert samples[f"rocmforge_model_{own}", "a"] == samples[f"vllm:{vllm}", "a"] == value
    assert samples["rocmforge_model_cache_page_tokens", "a"] == 16
    assert samples["vllm:cache_config_info", "a", "16", "4"] == 1


def test_pages_beyond_the_cache_are_counted_by_tier() -> None:
    tiers = PageTierCounts(
        ram_bytes=100,
        ram_hit_pages=1,
        ram_dropped_pages=2,
        disk_hit_pages=3,
        disk_written_bytes=400,
        disk_dropped_pages=5,
        disk_damaged_pages=6,
        prompts_handed_over=9,
        uncopied_pages=10,
        copied_bytes=700,
        copy_seconds=0.5,
        restored_bytes=800,
        restore_seconds=0.25,
    )
    samples = Found(Engines(tiers=tiers))
    assert samples["rocmforge_model_kv_ram_bytes", "a"] == 100
    assert samples["rocmforge_model_prompts_handed_over_total", "a"] == 9
    assert samples["rocmforge_model_kv_uncopied_pages_total", "a"] == 10
    for name, label, value in (
        ("tier_hit_pages", "ram", 1),
        ("tier_dropped_pages", "ram", 2),
        ("tier_hit_pages", "disk", 3),
        ("tier_written_bytes", "disk", 400),
        ("tier_dropped_pages", "disk", 5),
        ("tier_damaged_pages", "disk", 6),
        ("copied_bytes", "out", 700),
        ("copy_seconds", "out", 0.5),
        ("copied_bytes", "in", 800),
        ("copy_seconds", "in", 0.25),
    ):
        assert samples[f"rocmforge_model_kv_{name}_total", "a", label] == value


def test_a_model_that_is_not_loaded_uses_no_cache_and_has_none() -> None:
    samples = Found(Engines())
    assert samples["rocmforge_model_cache_usage_ratio", "a"] == 0
    assert ("rocmforge_model_cache_page_tokens", "a") not in samples


def test_keys_beyond_the_most_share_a_series() -> None:
    tokens = KeyTokens(most_keys=2)
    for name in ("alice", "bob", "carol", "dave", "alice", None):
        tokens.finished(of_model("a", key=name))
    samples = Found(tokens)
    assert samples["rocmforge_key_tokens_total", "alice", "prompt"] == 6
    assert samples["rocmforge_key_tokens_total", "alice", "generated"] == 4
    assert samples["rocmforge_key_tokens_total", OTHERS, "prompt"] == 6
    assert len(samples) == 2 * 3


def test_embedding_requests_are_counted_by_how_they_end() -> None:
    requests = EmbeddingRequests()
    with requests.counted("a", texts=2, tokens=9):
        pass
    for error in (ClientGone("gone"), RuntimeError("broken")):
        with pytest.raises(type(error)), requests.counted("a", texts=1, tokens=5):
            raise error
    samples = Found(requests)
    for end in ("completed", "cancelled", "failed"):
        assert samples["rocmforge_model_embedding_requests_total", "a", end] == 1
    assert samples["rocmforge_model_embedding_texts_total", "a"] == 2
    assert samples["rocmforge_model_embedding_tokens_total", "a"] == 9
    assert samples["rocmforge_model_embedding_duration_seconds_count", "a"] == 3


def test_without_requests_and_models_there_is_nothing() -> None:
    assert len(Found(ModelRequests(), KeyTokens(), EmbeddingRequests())) == 0
