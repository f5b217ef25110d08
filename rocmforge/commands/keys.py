"""Make an API key, or list the keys.

With a name the new key is printed once, and its hash is added to the key file. A server that runs
takes the change at once. To remove a key, delete its table from the file.
"""

import argparse
from typing import TYPE_CHECKING

from rocmforge.options import add_settings, settings_of

if TYPE_CHECKING:
    from api.keys import Key

LIMITS = {
    "requests_per_minute": "requests in a minute",
    "tokens_per_minute": "tokens of prompts and answers in a minute",
    "concurrent_requests": "requests at the same time",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of the new key")
    parser.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        choices=("generate", "metrics", "admin"),
        help="what the key may be used for; can be repeated; generate by default",
    )
    for name, of in LIMITS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"maximum number of {of}")
    add_settings(parser, "home", "key_file")


def run(options: argparse.Namespace) -> None:
    from api.key_file import add_key, keys_in

    settings = settings_of(options)
    path = settings.keys_path
    if options.name is None:
        for key in keys_in(path):
            print(f"{key.name}: {', '.join([*sorted(key.scopes), *_limits(key)])}")
        return
    limits = {name: getattr(options, name) for name in LIMITS}
    print(add_key(path, options.name, scopes=options.scopes, limits=limits))


def _limits(key: "Key") -> list[str]:
    """Return the limits of a key, for people."""
    return [
        f"{limit} {name.replace('_', ' ')}"
        for name in LIMITS
        if (limit := getattr(key, name)) is not None
    ]
