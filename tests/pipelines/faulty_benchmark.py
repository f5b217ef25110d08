"""The measurement of a benchmark with a planted fault: what its child process runs in its stead."""

import os
import signal
from collections.abc import Callable, Sequence

from pipelines.benchmark import measurement, process, task, workloads
from pipelines.benchmark.load import CompletionRequest, StreamRecord
from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.process import Order, Part
from runtime.server_process import Candidate
from runtime.settings import Settings
from tests.pipelines.slowed_server import slowed

NEWEST = 2
FACTOR = 40.0
"""Times as slow: more than what other programs do to a few blocks of a busy machine."""


def slow_the_newest(order: Order, report: Callable[[Part], None]) -> Measurement:
    """The judged version is served slower."""
    served_version = measurement.served_version

    def slower(name: str, version: int, settings: Settings) -> Candidate:
        candidate = served_version(name, version, settings)
        return slowed(candidate, FACTOR) if version == NEWEST else candidate

    task.served_version = slower  # type: ignore[attr-defined]
    return process.carry_out(order, report)


def kill_in_the_middle(order: Order, report: Callable[[Part], None]) -> Measurement:
    """The process is killed while its server runs."""

    def killed(url: str, requests: Sequence[CompletionRequest]) -> tuple[StreamRecord, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL cannot be survived")

    workloads.complete = killed  # type: ignore[assignment, attr-defined]
    return process.carry_out(order, report)
