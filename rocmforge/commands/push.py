"""Put a published version into an object storage, as the one that servers take over.

FOLDER is a URL: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER. What is there already is
not sent again, and an interrupted push goes on where it ended. Prints the URL of the version, which
`rocmforge pull` and `rocmforge serve` take.
"""

import argparse

from rocmforge.options import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a published name, NAME@VERSION or a published .gguf file"
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="by default ROCMFORGE_STORAGE")
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    from rocmforge.progress import shown
    from runtime.errors import SettingsError
    from runtime.registry import Registry, version_number
    from runtime.storage.push import push
    from runtime.storage.stores import open_store

    settings = settings_of(options)
    folder = options.folder or settings.storage
    if not folder:
        raise SettingsError("there is no storage to push to; give FOLDER, or set ROCMFORGE_STORAGE")
    registry = Registry(settings)
    path = registry.resolve(options.model)
    model = registry.version(path.parent.parent.name, version_number(path))
    with shown() as report:
        pushed = push(open_store(folder), model, report, report.amount)
    print(pushed.address)
