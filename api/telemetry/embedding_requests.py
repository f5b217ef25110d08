"""Metrics of requests for vectors and scores, by model."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from api.errors import ClientGone
from api.telemetry.histograms import Histograms


class EmbeddingRequests(Collector):
    """Counts the requests that embed or score texts. Any thread may call any method.

    A lock guards the counts. Models without such a request have no series.
    """

    def __init__(self) -> None:
        self._durations = Histograms()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._texts: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def counted(self, model: str, texts: int, tokens: int) -> Iterator[None]:
        """Return a context in which a submitted request is answered: it ends as the request."""
        began, end = time.perf_counter(), "failed"
        try:
            yield
            end = "completed"
        except ClientGone:
            end = "cancelled"
            raise
        finally:
            with self._lock:
                self._ended[model, end] += 1
                if end == "completed":
                    self._texts[model] += texts
                    self._tokens[model] += tokens
            self._durations.observe(model, [time.perf_counter() - began])

    def describe(self) -> list[Metric]:
        """Return nothing: there are no models yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of one scrape."""
        with self._lock:
            ended, texts, tokens = Counter(self._ended), Counter(self._texts), Counter(self._tokens)
        if not ended:
            return
        requests = CounterMetricFamily(
            "rocmforge_model_embedding_requests",
            "Total number of requests for vectors or scores that ended",
            labels=["model", "end"],
        )
        for labels, count in ended.items():
            requests.add_metric(labels, count)
        yield requests
        for name, of, counts in (("texts", "texts", texts), ("tokens", "tokens of texts", tokens)):
            family = CounterMetricFamily(
                f"rocmforge_model_embedding_{name}",
                f"Total number of {of} that were embedded or scored",
                labels=["model"],
            )
            for model, count in counts.items():
                family.add_metric([model], count)
            yield family
        yield self._durations.family(
            "rocmforge_model_embedding_duration_seconds", "Duration of such a request", "model"
        )
