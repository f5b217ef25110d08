"""Continue a prompt on the terminal, token by token."""

import argparse
import sys

from rocmforge.options import SESSION, add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a published name or a .gguf file")
    parser.add_argument("prompt", metavar="PROMPT", help="the text to continue; - reads it")
    parser.add_argument("--max-tokens", type=int, default=100, help="default 100")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy; default 1.0")
    parser.add_argument("--top-k", type=int, default=50, help="0 is off; default 50")
    parser.add_argument("--top-p", type=float, default=0.9, help="default 0.9")
    parser.add_argument("--seed", type=int, help="makes the text repeatable")
    add_settings(parser, *SESSION, "cache_tokens")


def run(options: argparse.Namespace) -> None:
    from rocmforge.generating import writing
    from rocmforge.model import prepared
    from runtime.sampler import SamplingParameters

    settings = settings_of(options)
    sampling = SamplingParameters(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    with writing(prepared(options.model, settings), settings) as writer:
        for text in writer.write(writer.tokenizer.encode(prompt), sampling, options.max_tokens):
            print(text, end="", flush=True)
    print()
