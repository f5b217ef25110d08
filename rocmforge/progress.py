"""Progress of a long command, on stderr: standard output is for the result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Report = Callable[[str], None]


@contextmanager
def shown() -> Iterator[Report]:
    """Yield a function to call with the name of each step as it begins.

    A terminal gets a spinner, and each step's time when it is over; other outputs a line per step.
    """
    if not sys.stderr.isatty():
        yield _print
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    current: list[tuple[str, float]] = []

    def close() -> None:
        if current:
            step, began = current.pop()
            console.print(f"[green]✓[/] {escape(step)} [dim]{time.perf_counter() - began:.1f} s[/]")

    with console.status("") as status:

        def report(step: str) -> None:
            close()
            current.append((step, time.perf_counter()))
            status.update(escape(step))

        yield report
        close()


def _print(step: str) -> None:
    with suppress(OSError):  # a full disk under a log must not end the work
        print(step, file=sys.stderr, flush=True)
