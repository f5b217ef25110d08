"""Results as Markdown tables, and the page that shows the documented runs."""

from collections.abc import Iterable, Sequence

from pipelines.simulation.figures import Played
from pipelines.simulation.limits import Limit
from pipelines.simulation.runs import Result

BEGIN = "<!-- {name}: rocmforge simulate --document -->\n"
END = "<!-- /{name} -->\n"


def results_table(results: Sequence[Result]) -> str:
    """Return a row for each run."""
    return _table(
        (
            "replicas",
            "chats/s each",
            "router",
            "event delay, ms",
            "requests",
            "hits",
            "first token p50, ms",
            "p95, ms",
            "tokens/s",
            "busy",
            "busiest / mean",
        ),
        (
            (
                str(result.run.replicas),
                f"{result.run.traffic.chats_per_second:g}",
                result.run.router,
                str(result.run.event_delay_ms),
                f"{result.figures.requests:,}",
                f"{result.figures.hit_rate:.1%}",
                f"{result.figures.first_token_p50_ms:,.0f}",
                f"{result.figures.first_token_p95_ms:,.0f}",
                f"{result.figures.tokens_per_second:,.0f}",
                f"{result.figures.busy:.0%}",
                f"{result.figures.busiest:.2f}",
            )
            for result in results
        ),
    )


def validation_table(measured: Played, simulated: Played) -> str:
    """Return a row for each figure: on a server, simulated, and their ratio."""
    kinds = (
        ("requests", "requests", ",.0f"),
        ("hits", "hit_rate", ".1%"),
        ("first token p50, ms", "first_token_p50_ms", ",.0f"),
        ("first token p95, ms", "first_token_p95_ms", ",.0f"),
        ("tokens/s", "tokens_per_second", ",.1f"),
    )
    rows = []
    for title, name, form in kinds:
        real, model = getattr(measured, name), getattr(simulated, name)
        rows.append((title, f"{real:{form}}", f"{model:{form}}", f"{model / real:.2f}"))
    return _table(("", "server", "simulated", "ratio"), rows)


def limits_table(limits: Iterable[Limit]) -> str:
    """Return a row for each size of a fleet."""
    return _table(
        (
            "replicas",
            "requests/s",
            "pages stored/s",
            "events, MB/s to each router",
            "index, GB",
            "choosing, µs a request",
            "choosing, cores",
            "events, cores",
        ),
        (
            (
                f"{limit.replicas:,}",
                f"{limit.requests_per_second:,.0f}",
                f"{limit.pages_per_second:,.0f}",
                _short(limit.event_bytes_per_second / 1e6),
                _short(limit.index_bytes / 1e9),
                f"{limit.choose_us:,.0f}",
                _short(limit.choosing_cores),
                _short(limit.event_cores),
            )
            for limit in limits
        ),
    )


def with_part(page: str, name: str, part: str) -> str:
    """Return a page with the text between a name's two comments replaced."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page lacks {begin.strip()} and {end.strip()}")
    return before + begin + part + end + after


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---:"] * len(head)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def _short(value: float) -> str:
    """Format with two significant digits below 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
