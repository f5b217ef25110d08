"""Options of the commands that generate text: how its tokens are drawn."""

import argparse
from typing import TYPE_CHECKING

from runtime.errors import InvalidRequest, SettingsError

if TYPE_CHECKING:
    from runtime.sampler import SamplingParameters


def add_sampling(
    parser: argparse.ArgumentParser, *, temperature: float, max_tokens: int, of: str
) -> None:
    """Add the options; `temperature` and `max_tokens` are the command's defaults."""
    parser.add_argument("--max-tokens", type=int, default=max_tokens, help=of)
    parser.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help=f"0 is greedy; default {temperature}",
    )
    parser.add_argument("--top-k", type=int, default=50, help="0 is off; default 50")
    parser.add_argument("--top-p", type=float, default=0.9, help="default 0.9")
    parser.add_argument("--seed", type=int, help="makes what is generated repeatable")


def sampling_of(options: argparse.Namespace) -> "SamplingParameters":
    """What the options ask for. Raises SettingsError where one is out of its range."""
    from runtime.sampler import SamplingParameters

    if options.max_tokens < 1:
        raise SettingsError("--max-tokens takes a whole number from 1")
    try:
        return SamplingParameters(
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
        )
    except InvalidRequest as error:
        raise SettingsError(f"{error} (--temperature, --top-k, --top-p and --seed)") from None
