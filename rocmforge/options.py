"""Options of the commands: settings, which override the environment, and sampling parameters."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest, SettingsError
from runtime.sampling_ranges import RANGES
from runtime.setting_fields import description
from runtime.settings import CONFIG, PREFIX, Settings, setting_fields

if TYPE_CHECKING:
    from runtime.sampling import SamplingParameters

MODEL = "a published name, a .gguf file or its folder, hf:OWNER/REPO:QUANT or s3://.../NAME"
SESSION = ("home", "device", "weights", "gpu", "gpu_memory_utilization", "threads", "token_budget")
SERVER = (
    "home",
    "host",
    "port",
    "key_file",
    "insecure",
    "allowed_origins",
    "hide_cached_tokens",
    "device",
    "weights",
    "packed_bytes",
    "gpu",
    "threads",
    "cache_tokens",
    "state_snapshot_bytes",
    "kv_ram_bytes",
    "kv_disk_bytes",
    "kv_disk_folder",
    "role",
    "logprobs_bytes",
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
    "memory_budget",
    "keep_alive",
    "chat_template",
    "log_level",
    "otlp",
    "kv_events",
    "kv_events_replay",
    "server_name",
    "weights_copy",
)

REPEATED = ("dry_sequence_breakers", "stop_token_ids")
"""Fields of which the command line takes one value at a time, under a name without s."""


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


def add_accepted_checks(parser: argparse.ArgumentParser) -> None:
    """Add --accept-check, for a GGUF that is prepared."""
    parser.add_argument(
        "--accept-check",
        dest="setting_accept_check",
        action=_CheckLimits,
        metavar="NAME[=X]",
        help="publish although this check fails: logits, greedy and perplexity up to X, such as "
        "logits=0.2; tokenizer, determinism and served without; can be repeated",
    )


class _CheckLimits(argparse.Action):
    """Collects NAME=X as numbers by name, and NAME as None."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        name, _, limit = str(values).partition("=")
        given = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, {**given, name: limit or None})


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add `--name VALUE` for each named field of Settings, and `--name` where false is usual."""
    group = parser.add_argument_group(
        "settings",
        f"each can also be set in the environment, as {PREFIX}<NAME>, or in a TOML file",
    )
    fields = {field.name: field for field in setting_fields()}
    for name in (CONFIG, *names):
        option, help_text = f"--{name.replace('_', '-')}", description(fields[name])
        dest, help_text = f"setting_{name}", help_text.replace("%", "%%")
        if fields[name].default is False:
            group.add_argument(
                option, dest=dest, action="store_const", const="true", help=help_text
            )
        else:
            group.add_argument(option, dest=dest, metavar="VALUE", help=help_text)


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
    group = parser.add_argument_group("sampling", "as the fields of the API of these names")
    defaults = {"temperature": temperature, "top_k": 50, "top_p": 0.9}
    for name, allowed in RANGES.items():
        default = f"; default {defaults[name]}" if name in defaults else ""
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=int if allowed.whole else float,
            default=defaults.get(name),
            metavar="N" if allowed.whole else "X",
            help=allowed.meaning + default,
        )
    group.add_argument(
        "--samplers", metavar="NAMES", help="those that act, in their order, with commas between"
    )
    group.add_argument(
        "--dry-sequence-breaker",
        dest="dry_sequence_breakers",
        action="append",
        metavar="TEXT",
        help="text beyond which no repetition reaches, in place of DRY's own; can be repeated",
    )
    group.add_argument(
        "--logit-bias",
        action="append",
        metavar="TOKEN=X",
        help="added to the logit of a token; can be repeated",
    )
    group.add_argument(
        "--stop-token-id",
        dest="stop_token_ids",
        type=int,
        action="append",
        metavar="TOKEN",
        help="a token that ends the answer; can be repeated",
    )


def sampling_of(options: argparse.Namespace) -> "SamplingParameters":
    """Return the sampling parameters. Raises SettingsError for one out of its range."""
    from api.schemas import SAMPLER_LETTERS, SamplingFields, sampling

    if options.max_tokens < 1:
        raise SettingsError("--max-tokens takes a whole number from 1")
    given = {
        name: getattr(options, name)
        for name in SamplingFields.__struct_fields__
        if hasattr(options, name)
    }
    if (names := options.samplers) is not None:
        given["samplers"] = names if set(names) <= set(SAMPLER_LETTERS) else names.split(",")
    if options.logit_bias:
        given["logit_bias"] = dict(map(_bias, options.logit_bias))
    try:
        return sampling(SamplingFields(**given))
    except InvalidRequest as error:
        option = (error.field or "").removesuffix("s") if error.field in REPEATED else error.field
        raise SettingsError(f"--{(option or '').replace('_', '-')} does not fit: {error}") from None


def _bias(given: str) -> tuple[str, float]:
    """Return the token and number of TOKEN=X. Raises SettingsError."""
    token, _, number = given.partition("=")
    try:
        return token, float(number)
    except ValueError:
        raise SettingsError(f"--logit-bias takes TOKEN=X, such as 5=-1.5, not {given}") from None
