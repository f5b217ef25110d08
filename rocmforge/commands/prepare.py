"""Convert a GGUF, validate it and publish it."""

import argparse

from rocmforge.options import add_accepted_checks, add_name, add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .gguf file, the first of its pieces, its folder, or hf:OWNER/REPO:QUANT",
    )
    add_name(parser)
    add_accepted_checks(parser)
    add_settings(parser, "home", "device", "weights", "packed_bytes", "threads", "weights_copy")


def run(options: argparse.Namespace) -> None:
    from pipelines.preparation import gguf_of
    from pipelines.prepare import prepare
    from rocmforge.progress import shown

    settings = settings_of(options)
    with shown() as report:
        gguf, named = gguf_of(options.model, settings, report)
        folder = prepare(
            gguf,
            settings,
            report,
            report.amount,
            name=options.name or named,
            replace=options.replace,
        )
    print(folder)
