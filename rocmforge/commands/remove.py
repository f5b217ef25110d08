"""Delete a model with all its versions, or one version, and free the disk space.

Your GGUF stays. A model that a server has loaded is not removed; a running preparation of it is
finished first.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a published name, or NAME@VERSION")
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.errors import ModelNotFound
    from runtime.registry import Registry, version_of

    name, separator, version = options.model.partition("@")
    number = version_of(version)
    if separator and not number:
        raise ModelNotFound(f"{version!r} is no version; `rocmforge models` lists them")
    Registry(settings_of(options)).remove(name, number or None)
