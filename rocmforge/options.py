"""Options that are settings: what is given on the command line wins over the environment."""

import argparse
from pathlib import Path

from runtime.settings import PREFIX, Settings

HELP = {
    "home": "folder of the published models and caches",
    "host": "address to listen on",
    "port": "port to listen on; 0 takes any free one",
    "device": "auto, cpu or rocm",
    "threads": "threads of the CPU operators; 0 takes every processor",
    "cache_tokens": "tokens that the KV cache holds over all requests; 0 takes what fits",
    "gpu_memory_utilization": "share of a GPU's memory that is used: 0.9",
    "page_size": "tokens a page of the KV cache",
    "token_budget": "most tokens that one step computes",
    "longest_pause": "seconds that a request's next token may wait for the prompts of others",
    "max_batch_size": "most requests that are computed side by side",
    "max_queue_length": "most requests that wait",
    "max_connections": "most requests that are answered at once",
    "request_timeout": "seconds after which a request is ended; 0 means never",
    "drain_timeout": "seconds that running requests are given at shutdown",
    "log_level": "debug, info, warning or error",
}
SESSION = ("home", "device", "gpu_memory_utilization", "threads", "token_budget")
SERVER = (*HELP,)


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--name VALUE` for each named field of Settings."""
    group = parser.add_argument_group(
        "settings", f"each may also come from the environment, as {PREFIX}<NAME>"
    )
    for name in names:
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=f"setting_{name}", metavar="VALUE", help=HELP[name]
        )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of a command. Raises SettingsError for a value that does not fit."""
    given = {
        name.removeprefix("setting_"): value
        for name, value in vars(options).items()
        if name.startswith("setting_")
    }
    if given.get("home") is not None:
        # Whoever runs this may change folders later.
        given["home"] = str(Path(given["home"]).expanduser().absolute())
    return Settings.from_environment(**given)
