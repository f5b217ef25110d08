"""Go back to an earlier version of a model.

Without VERSION it goes to the version that was current before, and brings back a retired model. The
version's files are verified first. Running servers of the model load the version.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a published name")
    parser.add_argument("version", metavar="VERSION", type=int, nargs="?", help="see `models`")
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.registry import Registry

    model = Registry(settings_of(options)).rollback(options.model, options.version)
    print(f"{model.name} is version {model.version} now")
