"""Turn texts into vectors with an embedding model.

Each line of the output is a JSON object: the text's index, its tokens and its vector, divided by
its length. A model that scores texts (a reranker) prints its scores instead.
"""

import argparse
import json
import sys

from rocmforge.options import MODEL, SESSION, add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text to embed")
    parser.add_argument(
        "--stdin",
        action="store_true",
        help="read further texts from standard input: each line is a JSON string",
    )
    parser.add_argument(
        "--dimensions", type=int, metavar="N", help="keep the first N values (Matryoshka models)"
    )
    add_settings(parser, *SESSION, "cache_tokens")


def run(options: argparse.Namespace) -> None:
    from rocmforge.model import prepared
    from runtime.embedding import Embedder, expect_dimensions, normalized
    from runtime.errors import InvalidRequest
    from runtime.loading import load, tokenizer_cache

    settings = settings_of(options)
    texts = [*options.texts, *(_lines() if options.stdin else ())]
    if not texts:
        raise InvalidRequest("there is no text to embed; give a TEXT or --stdin")
    session, tokenizer = load(
        prepared(options.model, settings), settings, tokenizer_cache(settings)
    )
    model = Embedder(session, page_size=settings.page_size, token_budget=settings.token_budget)
    expect_dimensions(options.dimensions, model.pooled)
    tokens = [tokenizer.encode(text) for text in texts]
    for each in tokens:
        model.check(each)
    done = 0
    while done < len(tokens):
        count = model.fitting([len(each) for each in tokens[done:]])
        for vector in model.vectors(tokens[done : done + count]):
            values = vector if model.pooled.scores else normalized(vector, options.dimensions)
            kind = "scores" if model.pooled.scores else "embedding"
            print(
                json.dumps(
                    {"index": done, "tokens": len(tokens[done]), kind: [float(v) for v in values]}
                )
            )
            done += 1


def _lines() -> list[str]:
    """Return the texts on standard input. Raises InvalidRequest for a line that is no string."""
    from runtime.errors import InvalidRequest

    found = []
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise InvalidRequest(f"line {number} of standard input is no JSON string")
        found.append(text)
    return found
