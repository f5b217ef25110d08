"""Progress of a long command, on stderr: standard output is for the result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

Report = Callable[[str], None]


@contextmanager
def shown() -> Iterator[Report]:
    """Yield a function to call with the name of each step as it begins.

    A terminal gets a spinner, and each step's time when it is over; other outputs a line per step.
    Nothing is shown or imported before the first step.
    """
    if not sys.stderr.isatty():
        yield _print
        return
    with ExitStack() as spinning:
        spinner: _Spinner | None = None

        def report(step: str) -> None:
            nonlocal spinner
            if spinner is None:
                spinner = _Spinner(spinning)
            spinner.begin(step)

        yield report
        if spinner is not None:
            spinner.end_step()


class _Spinner:
    """Shows one step at a time. Owned by one thread."""

    def __init__(self, spinning: ExitStack) -> None:
        """Begins to spin; ends with `spinning`."""
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = spinning.enter_context(self._console.status(""))
        self._step = ""
        self._began = 0.0

    def begin(self, step: str) -> None:
        from rich.markup import escape

        self.end_step()
        self._step, self._began = escape(step), time.perf_counter()
        self._status.update(self._step)

    def end_step(self) -> None:
        """Say how long the current step took, where there is one."""
        if self._step:
            seconds = time.perf_counter() - self._began
            self._console.print(f"[green]✓[/] {self._step} [dim]{seconds:.1f} s[/]")


def _print(step: str) -> None:
    with suppress(OSError):  # a full disk under a log must not end the work
        print(step, file=sys.stderr, flush=True)
