"""Serve a model over HTTP."""

import argparse

from rocmforge.options import (
    MODEL,
    SERVER,
    add_accepted_checks,
    add_name,
    add_settings,
    settings_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_name(parser)
    add_accepted_checks(parser)
    add_settings(parser, *SERVER)


def run(options: argparse.Namespace) -> None:
    from api.startup import serve_model
    from pipelines.preparation import expect_known
    from rocmforge.model import prepared
    from rocmforge.streams import say

    settings = settings_of(options)
    expect_known(options.model, settings, options.name)
    serve_model(
        options.model,
        settings,
        lambda: prepared(options.model, settings, name=options.name, replace=options.replace),
        say,
    )
