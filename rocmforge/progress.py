"""Progress of a long command, on stderr: standard output is for the result."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from runtime.progress import Progress


class Shown:
    """Shows one step at a time. Owned by one thread.

    A terminal gets a spinner, and each step's time when it is over; other outputs a line per step
    and tenth of it. Nothing is shown or imported before the first step.
    """

    def __init__(self, spinning: ExitStack | None) -> None:
        """Spins until `spinning` ends; None: prints lines."""
        self._spinning = spinning
        self._spinner: _Spinner | None = None
        self._progress = Progress()
        self._step = ""

    def __call__(self, step: str) -> None:
        """Show a step that begins."""
        self._step = step
        self._progress.begin()
        if self._spinning is None:
            _print(step)
            return
        if self._spinner is None:
            self._spinner = _Spinner(self._spinning)
        self._spinner.begin(step)

    def amount(self, done: int, total: int) -> None:
        """Show how many bytes of the step are done, and how long the rest takes."""
        if self._spinner is not None:
            self._spinner.amount(self._progress.words(done, total))
        elif self._spinning is None and self._progress.is_next_tenth(done, total):
            _print(f"{self._step}: {self._progress.words(done, total)}")

    def end(self) -> None:
        """Show that the last step is over."""
        if self._spinner is not None:
            self._spinner.end_step()


@contextmanager
def shown() -> Iterator[Shown]:
    """Yield what shows steps on standard error while the block lasts."""
    if not sys.stderr.isatty():
        yield Shown(None)
        return
    with ExitStack() as spinning:
        showing = Shown(spinning)
        yield showing
        showing.end()


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

    def amount(self, words: str) -> None:
        """Show how far the step is."""
        self._status.update(f"{self._step} [dim]{words}[/]")

    def end_step(self) -> None:
        """Say how long the current step took, where there is one."""
        if self._step:
            seconds = time.perf_counter() - self._began
            self._console.print(f"[green]✓[/] {self._step} [dim]{seconds:.1f} s[/]")


def _print(step: str) -> None:
    with suppress(OSError):  # a full disk under a log must not end the work
        print(step, file=sys.stderr, flush=True)
