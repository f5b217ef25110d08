"""Continue a prompt on the terminal, token by token."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rocmforge.options import SESSION, add_settings, settings_of

if TYPE_CHECKING:
    from runtime.sampler import SamplingParameters
    from runtime.settings import Settings


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
    folder = prepared(options.model, settings)
    for text in _texts(folder, prompt, sampling, options.max_tokens, settings):
        print(text, end="", flush=True)
    print()


def _texts(
    folder: Path, prompt: str, sampling: "SamplingParameters", max_tokens: int, settings: "Settings"
) -> Iterator[str]:
    """The answer's text, piece by piece. Raises RocmForgeError where the generation failed."""
    from rocmforge.model import load, tokenizer_cache
    from runtime.detokenizer import StreamDecoder
    from runtime.engine import Engine
    from runtime.errors import RocmForgeError
    from runtime.generation import FinishReason

    session, tokenizer = load(folder, settings, tokenizer_cache(settings))
    engine = Engine(session, end_of_generation=tokenizer.end_of_generation, settings=settings)
    engine.start()
    try:
        decoder = StreamDecoder(tokenizer, continues=True)
        generation = engine.submit(tokenizer.encode(prompt), sampling, max_tokens)
        while (output := generation.next_output()) is not None:
            if output.token is not None:
                yield decoder.feed(output.token)
            if output.finish_reason is not None:
                break
        yield decoder.flush()
        if generation.finish_reason is FinishReason.FAILED:
            raise RocmForgeError(f"the generation failed: {generation.error}")
    finally:
        engine.stop()
