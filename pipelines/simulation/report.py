"""Results as Markdown tables, and the page that shows the documented runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from pipelines.simulation.figures import Figures, Played
from pipelines.simulation.limits import Limit, Replica, event_bytes, limit, most_replicas
from pipelines.simulation.measured import Measured, RoutingCost
from pipelines.simulation.runs import Result, Run
from pipelines.simulation.step_times import NS_PER_MS

BEGIN = "<!-- {name}: rocmforge simulate --document -->\n"
END = "<!-- /{name} -->\n"
VARIED: Mapping[str, Callable[[Run], str]] = {
    "chats/s each": lambda run: f"{run.traffic.chats_per_second:g}",
    "event delay, ms": lambda run: str(run.event_delay_ms),
    "prefix weight": lambda run: f"{run.prefix_weight:g}",
}
FIGURES: Mapping[str, Callable[[Figures], str]] = {
    "requests": lambda figures: f"{figures.requests:,}",
    "hits": lambda figures: f"{figures.hit_rate:.1%}",
    "first token p50, ms": lambda figures: f"{figures.first_token_p50_ms:,.0f}",
    "p95, ms": lambda figures: f"{figures.first_token_p95_ms:,.0f}",
    "tokens/s": lambda figures: f"{figures.tokens_per_second:,.0f}",
    "busy": lambda figures: f"{figures.busy:.0%}",
    "busiest / mean": lambda figures: f"{figures.busiest:.2f}",
}
QUIET_SHARE = 0.1
"""Of the processors, for others, up to which times are those of the machine."""
BUSY = (
    " So every step took longer than on a machine that does nothing else: compare the routers, not "
    "the seconds."
)
FLEETS = (10, 100, 1000, 10_000)
"""Numbers of replicas behind one router."""
FASTER = 50
"""Times the requests, which a GPU may serve."""


def results_table(results: Sequence[Result]) -> str:
    """Return a row for each run: what differs among the runs, then the figures."""
    varied = [(title, [form(result.run) for result in results]) for title, form in VARIED.items()]
    varied = [(title, cells) for title, cells in varied if len(set(cells)) > 1]
    head = ("replicas", "router", *(title for title, _ in varied), *FIGURES)
    rows = []
    for index, result in enumerate(results):
        own = (str(result.run.replicas), result.run.router, *(cells[index] for _, cells in varied))
        rows.append((*own, *(form(result.figures) for form in FIGURES.values())))
    return _table(head, rows)


def measured_table(measured: Measured) -> str:
    """Return where times were measured, and examples of steps: measured and fitted."""
    rows = [
        (
            f"{step.tokens} of a prompt" if step.rows == 1 else f"{step.rows} rows, one each",
            str(step.start),
            f"{min(step.ms):.2f}",
            f"{measured.times.model_ns(step.work) / NS_PER_MS:.2f}",
        )
        for step in measured.steps
    ]
    return (
        f"{measured.model} with {measured.threads} threads on {measured.processor}, "
        f"{measured.started_at[:10]}. Other programs took {measured.others_processor_share:.0%} of "
        f"the processors. The fit is off by {measured.typical_error:.0%} (median) and at most "
        f"{measured.largest_error:.0%}."
        + (BUSY if measured.others_processor_share > QUIET_SHARE else "")
        + "\n\n"
        + _table(("tokens", "from position", "least of the rounds, ms", "fitted, ms"), rows)
    )


def validation_part(measured: Played, simulated: Played, others_share: float) -> str:
    """Return a row for each figure: on a server, simulated, and their ratio.

    others_share: of the processors, for other programs, while the server was measured.
    """
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
    return (
        _table(("", "server", "simulated", "ratio"), rows)
        + f"\nOther programs took {others_share:.0%} of the processors meanwhile.\n"
    )


def limits_part(each: Replica, cost: RoutingCost) -> str:
    """Return what one router needs for replicas as they were simulated, and for faster ones."""
    faster = each.times(FASTER)
    return (
        f"Measured on one processor ({cost.processor}): hashing a page of a prompt takes "
        f"{cost.hash_us_per_page:.1f} µs, a stored page's event {cost.event_us_per_page:.1f} µs "
        f"(decode, hash, index), and an entry of the index {cost.index_bytes_per_page:.0f} bytes. "
        f"A message has {event_bytes(0, each.page_size)} bytes, and "
        f"{event_bytes(1, each.page_size) - event_bytes(0, each.page_size)} more for each page. "
        f"A replica has {each.requests_per_second:.2f} requests a second with prompts of "
        f"{each.prompt_pages:.0f} pages, and stores {each.stored_per_second:.1f} pages:\n\n"
        + _limits_table([limit(replicas, each, cost) for replicas in FLEETS])
        + f"\nThe same for replicas with {FASTER} times the requests and the cache:\n\n"
        + _limits_table([limit(replicas, faster, cost) for replicas in FLEETS])
        + f"\nOne processor is enough for {most_replicas(each, cost):,} of the former, and for "
        f"{most_replicas(faster, cost):,} of the latter.\n"
    )


def _limits_table(limits: Iterable[Limit]) -> str:
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
