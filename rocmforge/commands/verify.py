"""Compare every byte of published models with their checksums.

Damaged packed copies of weights are made again. The exit status is 1 if a graph or a GGUF is
damaged: prepare that model again.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="a published name, NAME@VERSION or a prepared folder; by default every version",
    )
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from runtime.errors import PreparationError
    from runtime.registry import Registry
    from runtime.verification import Condition, verify

    settings = settings_of(options)
    registry = Registry(settings)
    folders = [registry.resolve(model) for model in options.models] or [
        model.folder for name in registry.names() for model in registry.versions(name)
    ]
    damaged = []
    for folder in folders:
        for finding in verify(folder, settings.packed_folder):
            print("  ".join(filter(None, (finding.condition, str(finding.file), finding.details))))
            if finding.condition is Condition.DAMAGED:
                damaged.append(finding)
    if damaged:
        raise PreparationError(
            f"{damaged[0].file} is damaged ({damaged[0].details}); prepare its model again"
        )
