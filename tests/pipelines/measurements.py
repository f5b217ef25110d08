"""Measurements made of planted samples."""

from collections.abc import Mapping, Sequence

from pipelines.benchmark.measurement import Calibration, Measurement
from pipelines.benchmark.results import BenchmarkResult, Machine, ServerResult, quantiles
from pipelines.benchmark.workloads import Plan

Samples = Mapping[str, Sequence[float]]
MACHINE = Machine(processor="planted", processors=2, instruction_set="AVX2", memory_bytes=2**34)


def measurement(
    ours: Samples,
    theirs: Samples | None = None,
    *,
    speeds: Sequence[float] = (1.0,) * 9,
    stream_counts: tuple[int, ...] = (1, 8),
    others_processor_share: float = 0.02,
    started_at: str = "2026-01-02T03:00:00+00:00",
) -> Measurement:
    """Version 2 with these samples, version 1 with those; the speed before and after each block.

    Latencies are the first-token samples, where there are some.
    """
    servers = [server("version 2", ours)]
    if theirs is not None:
        servers.append(server("version 1", theirs))
    result = BenchmarkResult(
        model="planted",
        weights_sha256="0" * 64,
        started_at=started_at,
        seconds=60.0,
        threads=2,
        machine=MACHINE,
        plan=Plan(stream_counts=stream_counts),
        servers=tuple(servers),
        client_processor_share=0.01,
        others_processor_share=others_processor_share,
    )
    return Measurement(result, tuple(Calibration(speed * 1e9, speed * 1e9) for speed in speeds))


def server(name: str, samples: Samples) -> ServerResult:
    return ServerResult(
        name=name,
        version="test",
        figures={figure: tuple(values) for figure, values in samples.items()},
        latencies={
            figure.replace("_p50", ""): quantiles(values)
            for figure, values in samples.items()
            if figure.endswith("_p50_ms")
        },
    )
