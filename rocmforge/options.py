"""Options of the commands: settings, which override the environment, and sampling parameters."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest, SettingsError
from runtime.setting_fields import description
from runtime.settings import PREFIX, Settings, setting_fields

if TYPE_CHECKING:
    from runtime.sampling import SamplingParameters

MODEL = "a published name, a .gguf file or its folder, or hf:OWNER/REPO:QUANT"
SESSION = ("home", "device", "gpu_memory_utilization", "threads", "token_budget")
SERVER = (
    "home",
    "host",
    "port",
    "device",
    "threads",
    "cache_tokens",
    "state_snapshot_bytes",
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


MORE_SAMPLING = {
    "min_p": "minimum probability relative to the most likely token; default 0 (off)",
    "repetition_penalty": "divisor of the logits of the last 64 tokens; default 1 (off)",
    "presence_penalty": "subtracted from the logits of the last 64 tokens; default 0",
    "frequency_penalty": "subtracted once per occurrence in the last 64 tokens; default 0",
}


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add --name and --replace, for a GGUF that may be published."""
    parser.add_argument(
        "--name", help="name of the model; by default that of the file, without .gguf"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="publish the file as the next version even if the model of this name is another one",
    )


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--name VALUE` for each named field of Settings."""
    group = parser.add_argument_group(
        "settings", f"each can also be set in the environment, as {PREFIX}<NAME>"
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
    """Return the settings of a command. Raises SettingsError for an invalid value."""
    given = {
        name.removeprefix("setting_"): value
        for name, value in vars(options).items()
        if name.startswith("setting_")
    }
    if given.get("home"):
        # Dagster and child processes may run in another working directory.
        given["home"] = str(Path(given["home"]).expanduser().absolute())
    return Settings.from_environment(**given)


def add_sampling(
    parser: argparse.ArgumentParser, *, temperature: float, max_tokens: int, of: str
) -> None:
    """Add the sampling options; `temperature` and `max_tokens` are the command's defaults."""
    parser.add_argument("--max-tokens", type=int, default=max_tokens, help=of)
    parser.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help=f"0 is greedy; default {temperature}",
    )
    parser.add_argument(
        "--top-k", type=int, default=50, help="sample from the K most likely tokens; default 50"
    )
    parser.add_argument(
        "--top-p", type=float, default=0.9, help="and from this share of their mass; default 0.9"
    )
    for name in MORE_SAMPLING:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=MORE_SAMPLING[name])
    parser.add_argument("--seed", type=int, help="makes sampling repeatable")


def sampling_of(options: argparse.Namespace) -> "SamplingParameters":
    """Return the sampling parameters. Raises SettingsError for one out of its range."""
    from runtime.sampling import SamplingParameters

    if options.max_tokens < 1:
        raise SettingsError("--max-tokens takes a whole number from 1")
    more = {name: getattr(options, name) for name in MORE_SAMPLING}
    try:
        return SamplingParameters(
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            **{name: value for name, value in more.items() if value is not None},
        )
    except InvalidRequest as error:
        option = (error.field or "").replace("_", "-")
        raise SettingsError(f"--{option} does not fit: {error}") from None
