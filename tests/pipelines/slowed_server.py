"""`rocmforge` whose model takes some times as long for every step, for tests of the benchmark.

    python -m tests.pipelines.slowed_server 1.2 serve MODEL ...

The product has no such thing: here the session is wrapped from outside.
"""

import sys
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rocmforge.__main__ import main
from runtime.server_process import Candidate
from runtime.session import Session
from runtime.step import StepInputs


def slowed(candidate: Candidate, factor: float) -> Candidate:
    """The same server, slower."""

    def command(*arguments: object) -> list[str]:
        python, _, _, *rest = candidate.command(*arguments)  # type: ignore[arg-type]
        return [python, "-m", __name__, str(factor), *rest]

    return replace(candidate, command=command)


def slow_down(factor: float) -> None:
    """Make every session spin until a step has taken `factor` times its own time."""
    run = Session.run

    def longer(self: Session, inputs: StepInputs) -> NDArray[np.float32]:
        began = time.perf_counter()
        logits = run(self, inputs)
        until = began + factor * (time.perf_counter() - began)
        while time.perf_counter() < until:
            pass
        return logits

    Session.run = longer  # type: ignore[method-assign]


if __name__ == "__main__":
    slow_down(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
