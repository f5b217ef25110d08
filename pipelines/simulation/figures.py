"""The figures of a simulation: hits, waiting times, throughput and balance. Pure functions."""

from collections.abc import Sequence

import msgspec

from pipelines.simulation.fleet import Outcome
from pipelines.simulation.replica import NS_PER_SECOND

NS_PER_MS = 1e6


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sees of a trace, simulated or played on a server."""

    requests: int
    hit_rate: float
    """Prompt tokens found in cached pages over those looked for, 0 to 1, as the metrics count."""
    first_token_p50_ms: float
    first_token_p95_ms: float
    tokens_per_second: float
    """Tokens of answers."""


class Figures(Played, frozen=True, kw_only=True):
    """A simulated fleet."""

    prompt_tokens: int
    seconds: float
    """Of simulated time, to the end of the last answer."""
    busiest: float
    """Busy time of the busiest replica over the mean; 1 is even."""
    busy: float
    """Mean share of the time in which a replica computes."""
    preemptions: int
    stored_pages: int
    """Pages that became findable, of all replicas."""
    event_batches: int
    """Steps with changed pages, of all replicas."""


def figures(outcome: Outcome) -> Figures:
    """Return the figures of an outcome."""
    questions, replicas = outcome.questions, outcome.replicas
    waits = sorted(question.first_ns - question.asked_ns for question in questions)
    seconds = outcome.ended_ns / NS_PER_SECOND
    busy = [replica.counts.busy_ns for replica in replicas]
    mean_busy = sum(busy) / len(busy)
    queried = sum(replica.prefix_queried_tokens for replica in replicas)
    return Figures(
        requests=len(questions),
        prompt_tokens=sum(question.prompt_tokens for question in questions),
        seconds=seconds,
        hit_rate=sum(replica.prefix_hit_tokens for replica in replicas) / queried,
        first_token_p50_ms=percentile(waits, 50) / NS_PER_MS,
        first_token_p95_ms=percentile(waits, 95) / NS_PER_MS,
        tokens_per_second=sum(len(question.answer) for question in questions) / seconds,
        busiest=max(busy) / mean_busy,
        busy=mean_busy / outcome.ended_ns,
        preemptions=sum(replica.preemptions for replica in replicas),
        stored_pages=sum(replica.counts.stored_pages for replica in replicas),
        event_batches=sum(replica.counts.event_batches for replica in replicas),
    )


def percentile(ascending: Sequence[int], percent: int) -> int:
    """Return the least value that this percentage of the values does not exceed."""
    return ascending[max(-(-len(ascending) * percent // 100) - 1, 0)]
