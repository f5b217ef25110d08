"""The measurement as a child of a Dagster step, spoken to through Dagster Pipes.

Its memory goes back to the system with it, and when it is killed the step fails and says so.
"""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from dagster_pipes import open_dagster_pipes

from pipelines.benchmark.measurement import Measurement
from pipelines.benchmark.task import Task
from runtime.errors import RocmForgeError
from runtime.processes import end_with_parent
from runtime.settings import Settings

COMMAND = (sys.executable, "-m", __name__)


class Order(msgspec.Struct, frozen=True):
    """What the child is told."""

    task: Task
    settings: Settings


class Outcome(msgspec.Struct, frozen=True):
    """What the child says at its end: a measurement, or why there is none."""

    measurement: Measurement | None = None
    problem: str = ""


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """As Pipes carries it: what JSON knows."""
    built: dict[str, Any] = msgspec.to_builtins(value, enc_hook=str)
    return built


def main() -> None:
    """Carry out the order that Pipes brings, and report the outcome."""
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with open_dagster_pipes() as pipes:
        order = msgspec.convert(pipes.extras, type=Order, dec_hook=_path)

        def told(title: str, done: int, parts: int) -> None:
            pipes.log.info(f"{done}/{parts} {title}")

        try:
            outcome = Outcome(order.task.measure(order.settings, told))
        except RocmForgeError as error:
            outcome = Outcome(problem=str(error))
        pipes.report_custom_message(plain(outcome))


def _path(kind: type, value: object) -> Path:
    return Path(str(value))


def _leave(number: int, frame: FrameType | None) -> None:
    """End as by an exception, so that the servers end too."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
