"""Options of the commands that generate text: how its tokens are drawn."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.sampler import SamplingParameters


def add_sampling(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    """Add the options; `temperature` is the command's default."""
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
    """What the options ask for."""
    from runtime.sampler import SamplingParameters

    return SamplingParameters(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
