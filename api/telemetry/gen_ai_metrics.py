"""OpenTelemetry's metrics of ended requests.

Names, units and buckets: OpenTelemetry's semantic conventions for generative AI, "Metrics".
"""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from api.telemetry.request_context import RequestContext, context_of
from api.telemetry.tracing import SCOPE_NAME, SERVICE_NAME
from runtime.generation import NANOSECONDS, FinishReason, Generation

DURATION_BOUNDS = tuple(0.01 * 2**power for power in range(14))
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TOKEN_TIME_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
USAGE_BOUNDS = tuple(float(4**power) for power in range(14))


class GenAIMetrics:
    """Histograms of durations and tokens. Any thread may call any method."""

    def __init__(self, reader: MetricReader, resource: Resource) -> None:
        """reader: what exports them, which this owns."""
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._provider.get_meter(SCOPE_NAME)
        self._duration = meter.create_histogram(
            "gen_ai.server.request.duration",
            "s",
            "Duration of a request",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )
        self._first_token = meter.create_histogram(
            "gen_ai.server.time_to_first_token",
            "s",
            "Time to the first token",
            explicit_bucket_boundaries_advisory=TTFT_BOUNDS,
        )
        self._token_time = meter.create_histogram(
            "gen_ai.server.time_per_output_token",
            "s",
            "Mean time of a token after the first",
            explicit_bucket_boundaries_advisory=TOKEN_TIME_BOUNDS,
        )
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a prompt and of an answer",
            explicit_bucket_boundaries_advisory=USAGE_BOUNDS,
        )

    def finished(self, generation: Generation) -> None:
        """Count an ended request that has a context."""
        context, timings = context_of(generation), generation.timings
        if context is None or timings.finished_ns is None:
            return
        labels = _labels(context)
        error: dict[str, str] = {}
        if generation.finish_reason in (FinishReason.FAILED, FinishReason.CANCELLED):
            error = {"error.type": str(generation.finish_reason)}
        whole = timings.finished_ns - timings.submitted_ns
        self._duration.record(whole / NANOSECONDS, labels | error)
        if timings.first_token_ns is not None:
            until_first = timings.first_token_ns - timings.submitted_ns
            self._first_token.record(until_first / NANOSECONDS, labels)
            if (further := generation.token_count - 1) > 0:
                decode = timings.finished_ns - timings.first_token_ns
                self._token_time.record(decode / further / NANOSECONDS, labels)
        prompt = 0 if generation.leader else len(generation.prompt_tokens)
        for kind, tokens in (("input", prompt), ("output", generation.token_count)):
            if tokens:
                self._usage.record(tokens, {**labels, "gen_ai.token.type": kind})

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def _labels(context: RequestContext) -> dict[str, str]:
    return {
        "gen_ai.operation.name": context.operation,
        "gen_ai.provider.name": SERVICE_NAME,
        "gen_ai.request.model": context.model,
    }
