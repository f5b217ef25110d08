"""The dependencies of the resources, created once per application."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from api.admission import Admission
from api.key_ring import KeyRing
from api.keys import Key
from api.model_pool import Lease, ModelPool
from api.quotas import Quotas
from api.request_log import RequestLog
from api.response_store import ResponseStore
from api.schemas import DiscoveredModel
from api.served_models import ServedModel, ServedModels
from api.slots import GenerationSlots
from api.stream_store import StreamStore
from api.telemetry.embedding_requests import EmbeddingRequests
from api.telemetry.key_tokens import KeyTokens
from api.telemetry.metrics import NO_STATISTICS, EngineMetrics, RequestDurations
from api.telemetry.model_requests import ModelRequests
from api.telemetry.tracing import RequestTracer, TraceRing
from runtime.errors import EngineUnavailable, SettingsError
from runtime.generation import Generation
from runtime.page_changes import PageChanges
from runtime.settings import Settings
from runtime.statistics import EngineStatistics
from runtime.tokenizer import CacheStatistics

if TYPE_CHECKING:
    from api.kv_events.publisher import KVEventPublisher
    from api.telemetry.otlp import Push

VERSION = version("rocmforge")
PING_SECONDS = 10.0

Done = TypeVar("Done")


def _no_models() -> Sequence[DiscoveredModel]:
    return ()


def _no_cache() -> CacheStatistics:
    return CacheStatistics(hits=0, misses=0, bytes=0)


def _push(settings: Settings) -> "Push | None":
    if not settings.otlp:
        return None
    from api.telemetry.otlp import Push  # 30 modules that only this setting needs

    return Push.begin()


def _kv_events(settings: Settings) -> "KVEventPublisher | None":
    if not settings.kv_events:
        return None
    try:
        from api.kv_events.publisher import KVEventPublisher  # ZeroMQ, which is optional
    except ModuleNotFoundError as error:
        raise SettingsError(
            "--kv-events needs the package pyzmq; `make setup` installs it, "
            "`pip install 'rocmforge[fleet]'` does as well"
        ) from error
    return KVEventPublisher(settings)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that is injected into the application. Each part documents its thread safety.

    Give it to the engine as its observer: an ended request is in metrics, traces and log before its
    client hears of the end.
    """

    settings: Settings
    models: Callable[[], Sequence[DiscoveredModel]] = _no_models
    """Finds the GGUF models of this machine."""
    cache_statistics: Callable[[], CacheStatistics] = _no_cache
    """Counts of the tokenizer cache."""
    ping_seconds: float = PING_SECONDS
    """Seconds that a stream may be silent before it sends a comment."""

    served: ServedModels = field(default_factory=ServedModels)
    """The default model: that of a request that names none."""
    requests: RequestLog = field(default_factory=RequestLog)
    responses: ResponseStore = field(default_factory=ResponseStore)
    """Responses that later requests may continue."""
    traces: TraceRing = field(default_factory=TraceRing)
    quotas: Quotas = field(default_factory=Quotas)
    request_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Shared by all engines, so that an id belongs to one request only."""
    draining: threading.Event = field(default_factory=threading.Event)
    """Set once the server takes no new work."""

    pool: ModelPool = field(init=False)
    keys: KeyRing = field(init=False)
    slots: GenerationSlots = field(init=False)
    streams: StreamStore = field(init=False)
    """Streams that their clients may resume."""
    durations: RequestDurations = field(init=False, default_factory=RequestDurations)
    by_model: ModelRequests = field(init=False, default_factory=ModelRequests)
    by_key: KeyTokens = field(init=False, default_factory=KeyTokens)
    embeddings: EmbeddingRequests = field(init=False, default_factory=EmbeddingRequests)
    tracer: RequestTracer = field(init=False)
    push: "Push | None" = field(init=False)
    """None unless traces and metrics are pushed."""
    kv_events: "KVEventPublisher | None" = field(init=False)
    """None unless the pages of prompts are published."""
    metrics: EngineMetrics = field(init=False)

    def __post_init__(self) -> None:
        """Make the parts that depend on others. Raises SettingsError."""
        push = _push(self.settings)
        kv_events = _kv_events(self.settings)
        further = (self.by_model, self.embeddings, self.by_key)
        made = {
            "pool": ModelPool(
                self.served,
                self.draining,
                budget=self.settings.memory_budget or math.inf,
                keep_alive=self.settings.keep_alive or math.inf,
            ),
            "keys": KeyRing(self.settings),
            "slots": GenerationSlots.of_server(self.settings),
            "streams": StreamStore(self.settings.resume_bytes),
            "tracer": RequestTracer(
                self.traces,
                pushed=None if push is None else push.spans,
                resource=None if push is None else push.resource,
            ),
            "push": push,
            "kv_events": kv_events,
            "metrics": EngineMetrics(
                self.statistics_by_model,
                self.durations,
                max_batch_size=self.settings.max_batch_size,
                page_size=self.settings.page_size,
                further=further if kv_events is None else (*further, kv_events),
                accepted_checks=self.accepted_checks,
            ),
        }
        for name, part in made.items():
            object.__setattr__(self, name, part)

    def admit(self, key: Key | None) -> Admission:
        """Admit a request of an API key, or of nobody's. Raises RateLimited and QueueFull."""
        return Admission(self.slots, self.quotas, key)

    def finished(self, generation: Generation) -> None:
        """Note the end of a request (runtime.engine.EngineObserver).

        If one part raises, the others are still called; the exception is raised at the end.
        """
        with ExitStack() as parts:
            # The last is called first.
            for part in (self.tracer, self.durations, self.by_model, self.by_key, self.requests):
                parts.callback(part.finished, generation)
            if self.push is not None:
                parts.callback(self.push.metrics.finished, generation)

    def page_changes(self, model: str) -> PageChanges | None:
        """Return where a new engine of a model notes its pages; None if nobody wants to know."""
        return None if self.kv_events is None else self.kv_events.follow(model)

    def close(self) -> None:
        """Push and publish what is left, if anything is pushed or published."""
        if self.kv_events is not None:
            self.kv_events.close()
        self.tracer.close()
        if self.push is not None:
            self.push.metrics.close()

    def statistics(self) -> EngineStatistics:
        """The counts of every engine there was, all zero without one."""
        return sum(self.pool.statistics(), start=NO_STATISTICS)

    def statistics_by_model(self) -> dict[str, EngineStatistics]:
        """The counts of every engine there was, by the names of the models."""
        return {
            name: sum(each.served.statistics(), start=NO_STATISTICS)
            for each in self.pool.models
            if (name := each.name) is not None
        }

    def accepted_checks(self) -> dict[str, float | None]:
        """The failed checks of the default model in spite of which it was published."""
        return self.pool.models[0].accepted_checks

    def with_newest(self, lease: Lease, work: Callable[[ServedModel], Done]) -> Done:
        """Return what `work` makes of the model, or of a version loaded since it was looked up.

        Raises what `work` raises, and what `Lease.model` does.
        """
        model = lease.model
        try:
            return work(model)
        except EngineUnavailable:
            newer = lease.model
            if newer is model:
                raise
            return work(newer)
