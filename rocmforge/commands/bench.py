"""Measure how fast a model is served.

A server process of the model is measured over HTTP: prefill, decode, concurrent streams, a repeated
prefix, the start and memory. The result is printed and saved below the home folder.

With --against it is measured together with another version and judged by that and by earlier
measurements; the exit status is 1 if a figure became worse: docs/regression.md.
"""

import argparse
from pathlib import Path

from rocmforge.options import add_settings, settings_of
from runtime.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a published name, NAME@VERSION or a .gguf file"
    )
    parser.add_argument(
        "--peers", action="store_true", help="measure llama.cpp too, round by round"
    )
    parser.add_argument(
        "--prompt-lookup",
        action="store_true",
        help="measure again with prompt lookup, whose gain depends on the text",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute")
    parser.add_argument(
        "--growth",
        action="store_true",
        help="instead: plot decode over context, output over streams, a step over requests",
    )
    parser.add_argument(
        "--profile", action="store_true", help="instead: a step's time, operator by operator"
    )
    parser.add_argument(
        "--structured",
        action="store_true",
        help="instead: what a JSON schema costs at 8 streams, beside the same without it",
    )
    parser.add_argument(
        "--sampling",
        action="store_true",
        help="instead: what sampling costs, beside the step whose logits it takes",
    )
    parser.add_argument(
        "--warm-restart",
        action="store_true",
        help="instead: the first token of a prompt of 8000 tokens, computed, and after restarts "
        "with its pages on disk",
    )
    parser.add_argument(
        "--prefill-apart",
        action="store_true",
        help="instead: streams next to long prompts, of one server and of two, one of which "
        "computes the prompts",
    )
    parser.add_argument(
        "--against",
        metavar="VERSION",
        help="instead: compare with a version: previous, a number, or baseline (past results)",
    )
    parser.add_argument(
        "--accept",
        action="store_true",
        help="with --against: accept the result as the new normal, whatever the verdict",
    )
    parser.add_argument("--save", metavar="FILE.json", type=Path, help="write the result there")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="plot the result")
    add_settings(
        parser, "home", "device", "threads", "cache_tokens", "token_budget", "max_batch_size"
    )


WHAT_ELSE_FITS = {
    "profile": {"save"},
    "structured": {"save"},
    "sampling": {"save"},
    "warm_restart": {"save"},
    "prefill_apart": {"save"},
    "growth": {"peers", "save", "plot"},
    "against": {"quick", "accept"},
    None: {"peers", "prompt_lookup", "quick", "save", "plot"},
}
"""By the option that selects the measurement: the options that can be combined with it."""
CHOICES = (
    "peers",
    "prompt_lookup",
    "quick",
    "growth",
    "profile",
    "structured",
    "sampling",
    "warm_restart",
    "prefill_apart",
    "against",
    "accept",
    "save",
    "plot",
)


def expect_fitting(options: argparse.Namespace) -> None:
    """Raise SettingsError for options that cannot be combined."""
    # False and None mean that an option was not given; an empty string was given.
    given = [name for name in CHOICES if getattr(options, name) not in (False, None)]
    kind = next((name for name in WHAT_ELSE_FITS if name in given), None)
    for name in given:
        if name != kind and name not in WHAT_ELSE_FITS[kind]:
            option = "--" + name.replace("_", "-")
            if kind is None:
                needed = next(k for k, fitting in WHAT_ELSE_FITS.items() if k and name in fitting)
                raise SettingsError(
                    f"{option} does nothing without --{needed}; give both or neither"
                )
            raise SettingsError(f"{option} does nothing beside --{kind}; leave one of them out")


def run(options: argparse.Namespace) -> None:
    from pipelines.benchmark.workloads import QUICK, Plan
    from rocmforge.benchmarking import (
        bench,
        grow,
        judge,
        prefill_apart,
        profile,
        sampling,
        structured,
        warm_restart,
    )
    from runtime.processes import leave_on_sigterm

    expect_fitting(options)
    # The measured servers end with this process.
    leave_on_sigterm()
    settings = settings_of(options)
    if options.profile:
        profile(options.model, settings, save=options.save)
    elif options.structured:
        structured(options.model, settings, save=options.save)
    elif options.sampling:
        sampling(options.model, settings, save=options.save)
    elif options.prefill_apart:
        prefill_apart(options.model, settings, save=options.save)
    elif options.warm_restart:
        warm_restart(options.model, settings, save=options.save)
    elif options.growth:
        grow(options.model, settings, peers=options.peers, save=options.save, plot=options.plot)
    elif options.against is not None:
        judge(
            options.model,
            settings,
            against=options.against,
            quick=options.quick,
            accept=options.accept,
        )
    else:
        bench(
            options.model,
            settings,
            QUICK if options.quick else Plan(),
            prompt_lookup=options.prompt_lookup,
            peers=options.peers,
            save=options.save,
            plot=options.plot,
        )
