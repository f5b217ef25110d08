"""Options that are settings: what is given on the command line wins over the environment."""

import argparse
from pathlib import Path

from runtime.settings import PREFIX, Settings, description, setting_fields

SESSION = ("home", "device", "gpu_memory_utilization", "threads", "token_budget")
SERVER = (
    "home",
    "host",
    "port",
    "device",
    "threads",
    "cache_tokens",
    "gpu_memory_utilization",
    "page_size",
    "token_budget",
    "longest_pause",
    "max_batch_size",
    "max_queue_length",
    "max_connections",
    "max_body_bytes",
    "request_timeout",
    "stall_timeout",
    "drain_timeout",
    "chat_template",
    "log_level",
    "weights_copy",
)


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add --name and --replace, for a GGUF that may be published."""
    parser.add_argument(
        "--name", help="what the model is called; by default as the file, without .gguf"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="make the file the next version of a model of this name that it does not resemble",
    )


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--name VALUE` for each named field of Settings."""
    group = parser.add_argument_group(
        "settings", f"each may also come from the environment, as {PREFIX}<NAME>"
    )
    descriptions = {field.name: description(field) for field in setting_fields()}
    for name in names:
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"setting_{name}",
            metavar="VALUE",
            help=descriptions[name].replace("%", "%%"),
        )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of a command. Raises SettingsError for a value that does not fit."""
    given = {
        name.removeprefix("setting_"): value
        for name, value in vars(options).items()
        if name.startswith("setting_")
    }
    if given.get("home"):
        # Whoever runs this may change folders later.
        given["home"] = str(Path(given["home"]).expanduser().absolute())
    return Settings.from_environment(**given)
