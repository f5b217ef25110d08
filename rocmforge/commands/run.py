"""Chat with a model that need not be here yet: fetched, prepared and loaded in one command.

Without MODEL it is the sample model (98 MB). `chat` is the same for a model that is named.
"""

import argparse

from rocmforge.commands import chat
from rocmforge.options import MODEL, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help=MODEL)
    chat.add_options(parser)


def run(options: argparse.Namespace) -> None:
    if options.model is None:
        from rocmforge.progress import shown
        from runtime.sample_model import fetch

        with shown() as report:
            options.model = str(fetch(settings_of(options).cache_folder, report))
    chat.run(options)
