"""Validation in a child process.

The exact model's memory goes back to the system with it, a crash of a kernel is a failed check,
and one BLAS thread suffices: several fight with ONNX Runtime's for the same processors.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.validation.run import CHECKS, run_checks
from runtime.child_process import run_in_child
from runtime.errors import ChildDied, PreparationError
from runtime.manifest import CheckResult
from runtime.progress import Amount, uncounted
from runtime.settings import Settings

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
FUNCTION = f"{__name__}:carry_out"


class Order(msgspec.Struct, frozen=True):
    """Which prepared folder is checked."""

    folder: Path
    settings: Settings


class Progress(msgspec.Struct, frozen=True):
    """What a check does as it begins, its result, or how many bytes it has gone through."""

    step: str = ""
    result: CheckResult | None = None
    done: int = 0
    total: int = 0


def validate_in_child(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
) -> tuple[CheckResult, ...]:
    """`validate` in a child process, with the same arguments and results.

    A crash is the failure of the check during which it happened. Raises PreparationError when the
    process dies before its first check, or after its last, though all have passed.
    """
    results: list[CheckResult] = []
    begun = False

    def report(said: Progress) -> None:
        nonlocal begun
        if said.result is not None:
            results.append(said.result)
        elif said.total:
            amount(said.done, said.total)
        else:
            begun = True
            progress(said.step)

    try:
        run_in_child(
            FUNCTION,
            Order(folder, settings),
            report,
            progress=Progress,
            answer=type(None),
            environment=dict.fromkeys(BLAS_THREADS, "1"),
        )
    except ChildDied as error:
        if not begun:
            raise PreparationError(f"the checks cannot be run: {error}") from None
        if len(results) == len(CHECKS) and results[-1].allows_publishing:
            raise PreparationError(f"the checks have passed, but then {error}") from None
        if all(result.allows_publishing for result in results):
            name = list(CHECKS)[len(results)]
            results.append(CheckResult(name=name, passed=False, summary=str(error)))
    return tuple(results)


def carry_out(order: Order, report: Callable[[Progress], None]) -> None:
    """Run the checks, in the child process."""
    for result in run_checks(
        order.folder,
        order.settings,
        lambda step: report(Progress(step=step)),
        lambda done, total: report(Progress(done=done, total=total)),
    ):
        report(Progress(result=result))
