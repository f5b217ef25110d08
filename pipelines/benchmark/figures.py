"""The figures of a benchmark, by name, and their computation from stream times. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import msgspec
import numpy as np

from pipelines.benchmark.load import StreamRecord

NS = 1e9
NS_PER_MS = 1e6
LEAST = 1e-9
"""Stands for zero where something is divided by it."""


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A figure as people read it. The unit is the end of its name, too."""

    name: str
    title: str
    unit: str
    higher_is_better: bool = False


def _stream_kinds(streams: int) -> list[FigureKind]:
    name, many = f"streams_{streams}", f"{streams} stream{'s' if streams > 1 else ''}"
    return [
        FigureKind(f"{name}_tokens_per_second", f"{many}: output", "tokens/s", True),
        FigureKind(f"{name}_first_token_p50_ms", f"{many}: first token, p50", "ms"),
        FigureKind(f"{name}_first_token_p95_ms", f"{many}: first token, p95", "ms"),
        FigureKind(f"{name}_between_tokens_p50_ms", f"{many}: between tokens, p50", "ms"),
        FigureKind(f"{name}_between_tokens_p95_ms", f"{many}: between tokens, p95", "ms"),
    ]


def figure_kinds(stream_counts: Iterable[int]) -> tuple[FigureKind, ...]:
    """Every figure of a benchmark in the order of its table."""
    return (
        FigureKind("prefill_tokens_per_second", "prefill, long prompt", "tokens/s", True),
        FigureKind("decode_short_tokens_per_second", "decode, short context", "tokens/s", True),
        FigureKind("decode_long_tokens_per_second", "decode, long context", "tokens/s", True),
        FigureKind(
            "decode_copying_tokens_per_second",
            "decode, text that copies its prompt",
            "tokens/s",
            True,
        ),
        *(kind for streams in stream_counts for kind in _stream_kinds(streams)),
        FigureKind("prefix_cold_ms", "long prompt, first time: first token", "ms"),
        FigureKind("prefix_warm_ms", "long prompt, seen before: first token", "ms"),
        FigureKind("prefix_warm_decode_steps", "the same in decode steps", "steps"),
        FigureKind("start_seconds", "start to ready", "s"),
        FigureKind("memory_start_anonymous_mb", "memory at start, anonymous", "MB"),
        FigureKind("memory_start_total_mb", "memory at start, total", "MB"),
        FigureKind("memory_loaded_anonymous_mb", "memory after most streams, anonymous", "MB"),
        FigureKind("memory_loaded_total_mb", "memory after most streams, total", "MB"),
    )


def first_token_ms(record: StreamRecord) -> float:
    """Milliseconds from the request to its first token."""
    return (record.event_ns[0] - record.sent_ns) / NS_PER_MS


def gaps_ms(record: StreamRecord) -> list[float]:
    """Milliseconds between each token event of a stream and the next."""
    return [(later - earlier) / NS_PER_MS for earlier, later in pairwise(record.event_ns)]


def prefill_tokens_per_second(record: StreamRecord) -> float:
    """Tokens of the prompt over the time to the first token, HTTP and sampling included."""
    return record.prompt_tokens * NS / (record.event_ns[0] - record.sent_ns)


def decode_tokens_per_second(record: StreamRecord) -> float:
    """Tokens after the first over the time since the first."""
    # A tiny model's whole answer may arrive in one read.
    elapsed_ns = max(record.event_ns[-1] - record.event_ns[0], 1)
    return (record.completion_tokens - 1) * NS / elapsed_ns


def streams_figures(records: Sequence[StreamRecord]) -> dict[str, float]:
    """The figures of streams that ran side by side; percentiles are over all of them.

    Output tokens per second is over the time from the first request to the last token.
    """
    seconds = (max(r.event_ns[-1] for r in records) - min(r.sent_ns for r in records)) / NS
    first = [first_token_ms(record) for record in records]
    gaps = [gap for record in records for gap in gaps_ms(record)]
    name = f"streams_{len(records)}"
    return {
        f"{name}_tokens_per_second": sum(r.completion_tokens for r in records) / seconds,
        f"{name}_first_token_p50_ms": percentile(first, 50),
        f"{name}_first_token_p95_ms": percentile(first, 95),
        f"{name}_between_tokens_p50_ms": percentile(gaps, 50),
        f"{name}_between_tokens_p95_ms": percentile(gaps, 95),
    }


def streams_latencies(records: Sequence[StreamRecord]) -> dict[str, list[float]]:
    """Return every time of concurrent streams in milliseconds, by kind."""
    name = f"streams_{len(records)}"
    return {
        f"{name}_first_token_ms": [first_token_ms(record) for record in records],
        f"{name}_between_tokens_ms": [gap for record in records for gap in gaps_ms(record)],
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """Percentile with linear interpolation between ranks."""
    return float(np.percentile(values, percent))


class Spread(msgspec.Struct, frozen=True):
    """The middle of some samples and how far they reach."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Of at least one sample."""
        return cls(median=median(samples), lowest=min(samples), highest=max(samples))


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds, round by round, of something and of what stands beside it in each round."""

    measured: tuple[float, ...]
    beside: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The shortest of the one over the shortest of the other."""
        return min(self.measured) / min(self.beside)

    @property
    def median_ratio(self) -> float:
        """The median of the ratios of the rounds."""
        return median(m / b for m, b in zip(self.measured, self.beside, strict=True))


def ratios(kind: FigureKind, ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times better ours is, pair by pair: above 1 we are ahead.

    Sample i of both was taken in the same round, so a disturbance of the machine hits both.
    """
    pairs = [(max(a, LEAST), max(b, LEAST)) for a, b in zip(ours, theirs, strict=True)]
    return Spread.of([a / b if kind.higher_is_better else b / a for a, b in pairs])
