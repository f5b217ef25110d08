"""Metrics of ended requests by model, under names of our own and those of vLLM's dashboards.

Source of the latter: vLLM's documentation, "Metrics". The bounds of the buckets are ours.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from api.telemetry.histograms import Histograms
from api.telemetry.request_context import context_of
from runtime.generation import NANOSECONDS, FinishReason, Generation


class Named(NamedTuple):
    """A metric and its names, which get the prefixes `rocmforge_model_` and `vllm:`."""

    own: str
    vllm: str
    documentation: str


TTFT = Named("ttft_seconds", "time_to_first_token_seconds", "Time to first token")
TOKEN = Named(
    "inter_token_seconds", "inter_token_latency_seconds", "Time from one token to the next"
)
QUEUE = Named("queue_duration_seconds", "request_queue_time_seconds", "Queue phase duration")
PREFILL = Named(
    "prefill_duration_seconds", "request_prefill_time_seconds", "Prefill phase duration"
)
DECODE = Named("decode_duration_seconds", "request_decode_time_seconds", "Decode phase duration")
TOTAL = Named("total_duration_seconds", "e2e_request_latency_seconds", "Whole request duration")

VLLM_REASONS = {
    FinishReason.LENGTH: "length",
    FinishReason.STOP: "stop",
    FinishReason.EOS: "stop",
    FinishReason.CANCELLED: "abort",
    FinishReason.FAILED: "error",
}


class ModelRequests(Collector):
    """Durations, ends and prompt tokens of requests by model.

    The engines' threads write, any thread reads: a lock guards the counts. The models are those
    that the server serves, so there are never more series than their number allows.
    """

    def __init__(self) -> None:
        named = (TTFT, TOKEN, QUEUE, PREFILL, DECODE, TOTAL)
        self._durations = {each: Histograms() for each in named}
        self._ended: Counter[tuple[str, FinishReason]] = Counter()
        self._prompt_tokens: Counter[str] = Counter()
        self._lock = threading.Lock()

    def finished(self, generation: Generation) -> None:
        """Count an ended request that has a context."""
        context, reason = context_of(generation), generation.finish_reason
        if context is None or reason is None:
            return
        model, timings = context.model, generation.timings
        with self._lock:
            self._ended[model, reason] += 1
            if generation.leader is None:  # others have the same prompt
                self._prompt_tokens[model] += len(generation.prompt_tokens)
        phases = (
            (TTFT, timings.submitted_ns, timings.first_token_ns),
            (QUEUE, timings.submitted_ns, timings.started_ns),
            (PREFILL, timings.started_ns, timings.first_token_ns),
            (DECODE, timings.first_token_ns, timings.finished_ns),
            (TOTAL, timings.submitted_ns, timings.finished_ns),
        )
        for named, start, end in phases:
            seconds = [] if start is None or end is None else [(end - start) / NANOSECONDS]
            self._durations[named].observe(model, seconds)
        moments = np.array(generation.token_times_ns, np.int64)
        self._durations[TOKEN].observe(model, (moments[1:] - moments[:-1]) / NANOSECONDS)

    def describe(self) -> list[Metric]:
        """Return nothing: there are no models yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one scrape; none before the first request."""
        with self._lock:
            ended, prompt_tokens = Counter(self._ended), Counter(self._prompt_tokens)
        if not ended:
            return
        for named, histograms in self._durations.items():
            yield histograms.family(f"rocmforge_model_{named.own}", named.documentation, "model")
            yield histograms.family(f"vllm:{named.vllm}", named.documentation, "model_name")
        requests = "Total number of requests that ended"
        own = CounterMetricFamily(
            "rocmforge_model_requests", requests, labels=["model", "finish_reason"]
        )
        reasons: Counter[tuple[str, str]] = Counter()
        for (model, reason), count in ended.items():
            own.add_metric([model, reason], count)
            reasons[model, VLLM_REASONS[reason]] += count
        yield own
        vllm = CounterMetricFamily(
            "vllm:request_success", requests, labels=["model_name", "finished_reason"]
        )
        for (model, name), count in reasons.items():
            vllm.add_metric([model, name], count)
        yield vllm
        for metric, label in (
            ("rocmforge_model_prompt_tokens", "model"),
            ("vllm:prompt_tokens", "model_name"),
        ):
            family = CounterMetricFamily(
                metric, "Total number of prompt tokens of ended requests", labels=[label]
            )
            for model, count in prompt_tokens.items():
                family.add_metric([model], count)
            yield family
