"""Convert a GGUF, validate it and publish it."""

import argparse
from pathlib import Path

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.gguf", type=Path, help="the file to prepare")
    add_settings(parser, "home", "device", "threads")


def run(options: argparse.Namespace) -> None:
    from pipelines.prepare import prepare
    from rocmforge.progress import shown
    from runtime.errors import ModelNotFound

    settings = settings_of(options)
    if not options.model.is_file():
        raise ModelNotFound(f"{options.model} is not a file; name the GGUF to prepare")
    with shown() as report:
        folder = prepare(options.model, settings, report)
    print(folder)
