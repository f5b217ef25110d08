"""Serve models over HTTP.

The first is loaded at the start, and serves requests that name none. The others are loaded on their
first request.
"""

import argparse

from rocmforge.options import (
    MODEL,
    SERVER,
    add_accepted_checks,
    add_name,
    add_settings,
    settings_of,
)
from runtime.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="+", help=MODEL)
    add_name(parser)
    add_accepted_checks(parser)
    parser.add_argument(
        "--alias",
        dest="aliases",
        metavar="NAME=MODEL",
        action="append",
        help="a further name of a served model; can be repeated",
    )
    add_settings(parser, *SERVER)


def run(options: argparse.Namespace) -> None:
    from api.startup import serve_models
    from pipelines.preparation import expect_known
    from rocmforge.model import prepared
    from rocmforge.streams import say
    from runtime.storage.address import Address, is_address

    if options.aliases:
        options.setting_aliases = ",".join(options.aliases)
    settings = settings_of(options)
    if options.name is not None and len(options.models) > 1:
        raise SettingsError("--name is for one model; prepare the others before, under their names")
    for model in options.models:
        if is_address(model):
            Address.of(model)
        else:
            expect_known(model, settings, options.name)
    serve_models(
        options.models,
        settings,
        lambda model: prepared(model, settings, name=options.name, replace=options.replace),
        say,
    )
