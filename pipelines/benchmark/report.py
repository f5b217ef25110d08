"""A result as a table of text: for a terminal, and as Markdown for a page."""

from collections.abc import Iterable

from pipelines.benchmark.figures import FigureKind, Spread, ratios
from pipelines.benchmark.results import BenchmarkResult

Row = tuple[str, ...]


def headings(result: BenchmarkResult) -> Row:
    """The figure, a column for each server, and one for each comparison with the first."""
    names = [server.name for server in result.servers]
    return ("", *names, *(f"times better than {name}" for name in names[1:]))


def rows(result: BenchmarkResult) -> list[Row]:
    """A row per figure: medians, and the lowest and highest of several samples."""
    return [_row(result, kind) for kind in result.kinds()]


def summary(result: BenchmarkResult) -> str:
    """Return what was measured on which machine, as a paragraph."""
    machine, plan = result.machine, result.plan
    others = ", ".join(f"{server.name} ({server.version})" for server in result.servers[1:])
    return (
        f"{result.model}, {result.threads} threads, {result.started_at}, "
        f"{result.seconds / 60:.1f} minutes"
        + (f", beside {others}" if others else "")
        + f". Short prompt {plan.short_prompt_tokens} tokens, long {plan.long_prompt_tokens}; "
        f"streams of {plan.stream_prompt_tokens} and {plan.stream_new_tokens} new tokens. "
        f"{machine.processor}, {machine.processors} processors, operators for "
        f"{machine.instruction_set}. "
        f"The load client took {result.client_processor_share:.1%} of one processor, other "
        f"programs took {result.others_processor_share:.1%} of all."
    )


def markdown(result: BenchmarkResult) -> str:
    """The table in Markdown."""
    return markdown_table(headings(result), rows(result))


def markdown_table(head: Row, lines: Iterable[Row]) -> str:
    """Rows in Markdown; all columns but the first are aligned to the right."""
    rule = ("---",) + ("---:",) * (len(head) - 1)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def _row(result: BenchmarkResult, kind: FigureKind) -> Row:
    samples = [server.figures[kind.name] for server in result.servers]
    compared = [ratios(kind, samples[0], theirs) for theirs in samples[1:]]
    return (
        f"{kind.title}, {kind.unit}",
        *(_spread(Spread.of(values)) for values in samples),
        *(_spread(ratio) for ratio in compared),
    )


def _spread(spread: Spread) -> str:
    middle = _number(spread.median)
    if spread.lowest == spread.highest:
        return middle
    return f"{middle} ({_number(spread.lowest)} to {_number(spread.highest)})"


def _number(value: float) -> str:
    """Format with three significant digits and no exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
