"""Continue a prompt on the terminal, token by token."""

import argparse
import sys

from rocmforge.options import (
    MODEL,
    SESSION,
    add_sampling,
    add_settings,
    sampling_of,
    settings_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "prompt", metavar="PROMPT", help="the text to continue; - reads standard input"
    )
    parser.add_argument(
        "--no-parse-special",
        dest="parse_special",
        action="store_false",
        help="treat names of control tokens in PROMPT, such as <|im_start|>, as plain text",
    )
    add_sampling(parser, temperature=1.0, max_tokens=100, of="default 100")
    add_settings(parser, *SESSION, "cache_tokens")


def run(options: argparse.Namespace) -> None:
    from rocmforge.model import prepared
    from runtime.writer import writing

    settings = settings_of(options)
    sampling = sampling_of(options)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    with writing(prepared(options.model, settings), settings) as writer:
        tokens = writer.tokenizer.encode(prompt, parse_special=options.parse_special)
        for text in writer.write(tokens, sampling, options.max_tokens):
            print(text, end="", flush=True)
    print()
