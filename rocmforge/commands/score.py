"""Compute the logits of a token sequence.

Row t of the logits, float32 [T, vocabulary], scores the token after tokens 0 to t.
"""

import argparse
from pathlib import Path

from rocmforge.options import MODEL, SESSION, add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--tokens", metavar="T.npy", type=Path, required=True, help="integers [T]: the sequence"
    )
    parser.add_argument(
        "--out", metavar="L.npy", type=Path, required=True, help="output, float32 [T, vocabulary]"
    )
    add_settings(parser, *SESSION)


def run(options: argparse.Namespace) -> None:
    from rocmforge.model import prepared
    from rocmforge.progress import shown
    from runtime.scoring import read_tokens, score

    settings = settings_of(options)
    tokens = read_tokens(options.tokens)
    folder = prepared(options.model, settings)
    with shown() as report:
        score(folder, tokens, options.out, settings, report)
