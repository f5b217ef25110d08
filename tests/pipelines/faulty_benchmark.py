"""The process of a benchmark with a planted fault, for tests: what Dagster starts in its stead.

python -m tests.pipelines.faulty_benchmark slowed 4     # the judged version is served slower
python -m tests.pipelines.faulty_benchmark killed       # it is killed while its server runs
"""

import os
import signal
import sys
from collections.abc import Sequence

from pipelines.benchmark import measurement, process, task, workloads
from pipelines.benchmark.load import CompletionRequest, StreamRecord
from runtime.server_process import Candidate
from runtime.settings import Settings
from tests.pipelines.slowed_server import slowed


def command(fault: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a fault."""
    return (sys.executable, "-m", __name__, fault, *arguments)


def slow_the_newest(factor: float) -> None:
    served_version = measurement.served_version

    def slower(name: str, version: int, settings: Settings) -> Candidate:
        candidate = served_version(name, version, settings)
        return slowed(candidate, factor) if version == NEWEST else candidate

    task.served_version = slower  # type: ignore[attr-defined]


def kill_in_the_middle() -> None:
    def killed(url: str, requests: Sequence[CompletionRequest]) -> tuple[StreamRecord, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL cannot be survived")

    workloads.complete = killed  # type: ignore[assignment, attr-defined]


NEWEST = 2

if __name__ == "__main__":
    if sys.argv[1] == "slowed":
        slow_the_newest(float(sys.argv[2]))
    else:
        kill_in_the_middle()
    process.main()
