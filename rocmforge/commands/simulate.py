"""Simulate a fleet of servers behind a router, without a model.

The real scheduler and page manager compute made-up or recorded chats, in steps that take the time
that was measured of a model. Without options these are the runs of docs/simulation.md over the size
of a fleet: hit rate, time to first token, throughput and balance for each router.
"""

import argparse
from pathlib import Path

from rocmforge.options import MODEL, add_settings, settings_of
from runtime.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replicas", metavar="N", type=int, nargs="+", help="numbers of replicas, from 1"
    )
    parser.add_argument(
        "--router", metavar="NAME", nargs="+", help="those to compare; by default all of them"
    )
    parser.add_argument(
        "--trace", metavar="FILE.jsonl", type=Path, help="chats in place of drawn ones, one a line"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="of the drawn chats; default 1")
    parser.add_argument("--chats", metavar="N", type=int, help="drawn for each replica")
    parser.add_argument(
        "--chats-per-second", metavar="X", type=float, help="that begin, for each replica"
    )
    parser.add_argument("--systems", metavar="N", type=int, help="number of system prompts")
    parser.add_argument(
        "--event-delay-ms",
        metavar="N",
        type=int,
        help="until the prefix-aware router knows of a page",
    )
    parser.add_argument(
        "--prefix-weight",
        metavar="X",
        type=float,
        help="of known pages in the prefix-aware router's score, beside 1 for the load; default 2",
    )
    parser.add_argument(
        "--times", metavar="FILE.json", type=Path, help="measured times of steps; see --measure"
    )
    parser.add_argument(
        "--measure",
        metavar="MODEL",
        help=f"instead: measure the times of a model's steps, for --save; {MODEL}",
    )
    parser.add_argument(
        "--validate",
        metavar="MODEL",
        help="instead: play chats on a server of a model and compare with the simulation",
    )
    parser.add_argument(
        "--document",
        metavar="PAGE.md",
        type=Path,
        help="instead: write the tables and the picture of docs/simulation.md; with --validate, "
        "write its table",
    )
    parser.add_argument("--save", metavar="FILE.json", type=Path, help="write the result there")
    add_settings(
        parser,
        "home",
        "device",
        "threads",
        "cache_tokens",
        "page_size",
        "token_budget",
        "longest_pause",
        "max_batch_size",
    )


TRAFFIC = ("seed", "chats", "chats_per_second", "systems")
RUNS = ("replicas", "router", "trace", *TRAFFIC, "event_delay_ms", "prefix_weight", "save")
WHAT_ELSE_FITS = {
    "measure": {"save"},
    "validate": {"document", "trace", "times", "save", *TRAFFIC},
    "document": {"times"},
    None: {"times", *RUNS},
}
"""By the option that selects what is done: the options that can be combined with it."""


def expect_fitting(options: argparse.Namespace) -> str | None:
    """Return what is done; raises SettingsError for options that cannot be combined."""
    choices = ("measure", "validate", "document", "times", *RUNS)
    given = [name for name in choices if getattr(options, name) is not None]
    kind = next((name for name in WHAT_ELSE_FITS if name in given), None)
    for name in given:
        if name != kind and name not in WHAT_ELSE_FITS[kind]:
            raise SettingsError(
                f"--{name.replace('_', '-')} does nothing beside --{kind}; leave one of them out"
            )
    if options.trace is not None and (drawn := [name for name in TRAFFIC if name in given]):
        raise SettingsError(
            f"--{drawn[0].replace('_', '-')} is of drawn chats and does nothing beside --trace; "
            "leave one of them out"
        )
    return kind


def run(options: argparse.Namespace) -> None:
    from rocmforge.simulating import document, measure, simulate, traffic_of, validate
    from runtime.processes import leave_on_sigterm

    kind = expect_fitting(options)
    leave_on_sigterm()
    settings = settings_of(options)
    if kind == "measure":
        measure(options.measure, settings, save=options.save)
    elif kind == "validate":
        validate(
            options.validate,
            settings,
            traffic_of({name: getattr(options, name) for name in TRAFFIC}),
            trace=options.trace,
            times=options.times,
            page=options.document,
            save=options.save,
        )
    elif kind == "document":
        document(options.document, settings, times=options.times)
    else:
        simulate(
            settings,
            traffic_of({name: getattr(options, name) for name in TRAFFIC}),
            replicas=options.replicas,
            routers=options.router,
            trace=options.trace,
            event_delay_ms=options.event_delay_ms,
            prefix_weight=options.prefix_weight,
            times=options.times,
            save=options.save,
        )
