"""Runs of a simulation: who serves which traffic through which router, and the documented ones."""

from collections.abc import Iterator, Sequence

import msgspec

from pipelines.simulation.chats import Trace
from pipelines.simulation.figures import Figures, figures
from pipelines.simulation.fleet import EVENT_DELAY_MS, Fleet
from pipelines.simulation.routers import PREFIX_AWARE, PREFIX_WEIGHT, ROUTERS, router
from pipelines.simulation.step_times import StepTimes
from pipelines.simulation.traffic import Traffic, draw
from runtime.settings import Settings

SIZES = (2, 4, 8, 16, 32, 64)
COMPARED_SIZE = 8
LOADS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Chats per second and replica."""
WEIGHTS = (0.5, 1.0, 1.25, 1.5, 2.0, 4.0)
WEIGHED_SIZE = 32
DELAYS_MS = (0, 20, 200, 1000, 5000)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation. Immutable."""

    replicas: int
    router: str
    traffic: Traffic = Traffic()
    event_delay_ms: int = EVENT_DELAY_MS
    prefix_weight: float = PREFIX_WEIGHT
    """Of the prefix-aware router's score of known pages, beside 1 for that of the load."""

    def __str__(self) -> str:
        return f"{self.replicas} replicas, {self.router}"


class Result(msgspec.Struct, frozen=True):
    """A run and its figures."""

    run: Run
    figures: Figures


def run_one(run: Run, settings: Settings, times: StepTimes, trace: Trace | None = None) -> Result:
    """Return the figures of a run; `trace` takes the place of its traffic.

    Raises InvalidTrace for chats that a replica could not serve.
    """
    chats = draw(run.traffic, run.replicas) if trace is None else trace
    fleet = Fleet(
        run.replicas,
        router(run.router, run.replicas, settings.page_size, run.prefix_weight),
        settings,
        times,
        event_delay_ms=run.event_delay_ms,
    )
    return Result(run, figures(fleet.play(chats)))


def by_size(traffic: Traffic, sizes: Sequence[int] = SIZES) -> Iterator[Run]:
    """Yield runs of fleets that grow with their traffic, through each router."""
    for replicas in sizes:
        for name in ROUTERS:
            yield Run(replicas=replicas, router=name, traffic=traffic)


def by_load() -> Iterator[Run]:
    """Yield runs of one fleet with more and more traffic, through each router."""
    for rate in LOADS:
        for name in ROUTERS:
            traffic = Traffic(chats_per_second=rate)
            yield Run(replicas=COMPARED_SIZE, router=name, traffic=traffic)


def by_delay() -> Iterator[Run]:
    """Yield runs of one fleet whose router knows of pages later and later."""
    for delay in DELAYS_MS:
        yield Run(replicas=COMPARED_SIZE, router=PREFIX_AWARE, event_delay_ms=delay)


def by_weight() -> Iterator[Run]:
    """Yield runs of one fleet whose router weighs known pages more and more."""
    for weight in WEIGHTS:
        yield Run(replicas=WEIGHED_SIZE, router=PREFIX_AWARE, prefix_weight=weight)
