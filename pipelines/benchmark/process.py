"""The measurement of a Dagster step, in a child process.

Its memory goes back to the system with it, and when it is killed the step fails and says so.
"""

from collections.abc import Callable

import msgspec

from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.run import Progress
from pipelines.benchmark.task import Task
from runtime.child_process import run_in_child
from runtime.errors import BenchmarkError, ChildDied
from runtime.settings import Settings

FUNCTION = f"{__name__}:carry_out"


class Order(msgspec.Struct, frozen=True):
    """What is measured."""

    task: Task
    settings: Settings


class Part(msgspec.Struct, frozen=True):
    """A part of the measurement that begins, and how many of all parts are done."""

    title: str
    done: int
    parts: int


def measure_in_child(task: Task, settings: Settings, progress: Progress) -> Measurement:
    """`task.measure` in a child process.

    Raises what that raises, and BenchmarkError where the process dies.
    """
    try:
        return run_in_child(
            FUNCTION,
            Order(task, settings),
            lambda part: progress(part.title, part.done, part.parts),
            progress=Part,
            answer=Measurement,
        )
    except ChildDied as error:
        raise BenchmarkError(
            f"{task.model} could not be measured: {error}; nothing was recorded"
        ) from None


def carry_out(order: Order, report: Callable[[Part], None]) -> Measurement:
    """Measure, in the child process."""
    return order.task.measure(
        order.settings, lambda title, done, parts: report(Part(title, done, parts))
    )
