"""Convert a GGUF, validate it and publish it."""

import argparse
from pathlib import Path

from rocmforge.options import add_name, add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL.gguf",
        type=Path,
        help="the file to prepare, the first of its pieces, or its folder",
    )
    add_name(parser)
    add_settings(parser, "home", "device", "threads", "weights_copy")


def run(options: argparse.Namespace) -> None:
    from pipelines.prepare import prepare
    from rocmforge.progress import shown
    from runtime.errors import ModelNotFound
    from runtime.gguf import gguf_at

    settings = settings_of(options)
    if gguf_at(options.model) is None:
        raise ModelNotFound(f"{options.model} is not a file; name the GGUF to prepare")
    with shown() as report:
        folder = prepare(
            options.model, settings, report, name=options.name, replace=options.replace
        )
    print(folder)
