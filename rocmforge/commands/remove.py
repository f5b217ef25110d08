"""Delete a model with all its versions, and give its disk space back.

The GGUF that it was made of stays where it is. A model that a server has loaded is not removed.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a published name")
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.registry import Registry

    Registry(settings_of(options)).remove(options.model)
