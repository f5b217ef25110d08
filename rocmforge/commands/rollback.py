"""Go back to an earlier version of a model.

Without a version it is what was current before; of a retired model comes back what was current at
last. The version's files are read first, so that it can be loaded.
Servers of the model take the version over while they run.
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
