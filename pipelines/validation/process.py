"""Validation in a process of its own.

The exact model's memory goes back to the system with it, a crash of a kernel is a failed check,
and one BLAS thread suffices: several fight with ONNX Runtime's for the same processors.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.validation.run import CHECKS, run_checks
from runtime.errors import PreparationError
from runtime.manifest import CheckResult
from runtime.settings import Settings

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


# What `main` needs takes seconds to import; the process must end with its parent from the start.
PROGRAM = f"""
import signal, sys
from runtime.processes import end_with_parent
end_with_parent(signal.SIGKILL, parent=int(sys.argv[1]))
from {__name__} import main
main()
"""


class Task(msgspec.Struct):
    """What the process reads from its standard input."""

    folder: str
    settings: dict[str, object]


class Message(msgspec.Struct):
    """What the process says on its standard output, one JSON a line."""

    step: str = ""
    result: CheckResult | None = None


def validate_apart(
    folder: Path, settings: Settings, progress: Callable[[str], None]
) -> tuple[CheckResult, ...]:
    """`validate` in a process of its own, with the same arguments and results.

    A crash is the failure of the check during which it happened. Raises PreparationError when the
    process fails before its first check, or after its last, though all have passed.
    """
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    task = Task(folder=str(folder), settings={k: v for k, v in values.items() if v is not None})
    results: list[CheckResult] = []
    step = ""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **dict.fromkeys(BLAS_THREADS, "1")},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(task, enc_hook=str))
            process.stdin.close()
            for line in process.stdout:
                message = msgspec.json.decode(line, type=Message)
                if message.result is not None:
                    results.append(message.result)
                else:
                    step = message.step
                    progress(step)
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        errors.seek(0)
        last_words = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    if status:
        problem = " ".join([f"the process ended with status {status}", *last_words])
        if not step:
            raise PreparationError(f"the checks cannot be run: {problem}")
        if len(results) == len(CHECKS) and results[-1].passed:
            raise PreparationError(f"the checks have passed, but then {problem}")
        if all(result.passed for result in results):
            name = list(CHECKS)[len(results)]
            results.append(CheckResult(name=name, passed=False, summary=problem))
    return tuple(results)


def main() -> None:
    """Run the checks that standard input names; results go to standard output as they come."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    settings = Settings.from_environment({}, **task.settings)

    def say(message: Message) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    for result in run_checks(Path(task.folder), settings, lambda step: say(Message(step=step))):
        say(Message(result=result))
