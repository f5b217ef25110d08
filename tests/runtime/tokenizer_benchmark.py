"""How long a vocabulary of 150,000 tokens takes to load, without and with its cache.

And how the time of encoding grows with a text: for each kind of tokenizer and each split, the worst
of many texts.

PYTHONPATH=. python tests/runtime/tokenizer_benchmark.py
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from gguf import TokenType

from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer, TokenizerCache
from runtime.tokenizer.splits import SPLIT_RULES
from tests import tokenizer_cases as cases
from tests.models import (
    Vocabulary,
    byte_level_vocabulary,
    sentencepiece_vocabulary,
    write_tiny_llama,
)

TOKENS = 150_000
LENGTHS = (100_000, 200_000)
ROUNDS = 5


def grown(pieces: list[str], random: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of known pieces, each of which makes a new one, until there are enough."""
    known = dict.fromkeys(pieces)
    order = list(known)
    pairs: list[tuple[str, str]] = []
    while len(order) < TOKENS:
        left, right = (order[int(len(order) * random.random() ** 3)] for _ in range(2))
        if len(left + right) <= 12 and left + right not in known:
            known[left + right] = None
            order.append(left + right)
            pairs.append((left, right))
    return pairs


def vocabularies() -> dict[str, Vocabulary]:
    """Byte-level merges and SentencePiece, of that size."""
    random = np.random.default_rng(0)
    byte_level = byte_level_vocabulary(words=())
    pairs = grown(list(byte_level.tokens[3:]), random)
    merged = [left + right for left, right in pairs]
    scored = sentencepiece_vocabulary(words=())
    words = [left + right for left, right in grown(list("▁abcdefghijklmnopqrstuvwxyz"), random)]
    words = [word for word in words if word not in set(scored.tokens)]
    return {
        "byte level": replace(
            byte_level,
            tokens=[*byte_level.tokens, *merged],
            types=[*byte_level.types, *[TokenType.NORMAL] * len(merged)],
            merges=[" ".join(pair) for pair in pairs],
        ),
        "SentencePiece": replace(
            scored,
            tokens=[*scored.tokens, *words],
            types=[*scored.types, *[TokenType.NORMAL] * len(words)],
            scores=[*scored.scores, *(-100.0 - rank for rank in range(len(words)))],
        ),
    }


def seconds(path: Path, folder: Path | None) -> float:
    """From the file to the first token."""
    began = time.perf_counter()
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path), TokenizerCache(folder))
    tokenizer.encode("hello")
    return time.perf_counter() - began


def encoding_seconds(tokenizer: Tokenizer, text: str) -> float:
    """Of the processor, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        tokenizer.encode(text, parse_special=True)
        best = min(best, time.process_time() - began)
    return best


def print_growth(folder: Path) -> None:
    """Print for each distinct tokenizer its worst text by time, and by growth from n to 2 n."""
    distinct = {(v.model, SPLIT_RULES.get(v.pre)): v for _, v in cases.vocabularies()}
    for vocabulary in distinct.values():
        path = write_tiny_llama(folder / "grown.gguf", vocabulary=vocabulary, layers=1)
        tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
        slowest, steepest = (0.0, ""), (0.0, "")
        for text in cases.MONOTONOUS:
            half, whole = (
                encoding_seconds(tokenizer, (text * length)[:length]) for length in LENGTHS
            )
            slowest = max(slowest, (whole, text))
            steepest = max(steepest, (whole / half, text))
        print(
            f"{vocabulary.model} {vocabulary.pre}: {slowest[0]:.2f} s for {LENGTHS[1]} characters "
            f"{slowest[1]!r}; {steepest[0]:.2f} times for twice as many {steepest[1]!r}"
        )


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as name:
        for kind, vocabulary in vocabularies().items():
            path = write_tiny_llama(Path(name) / f"{kind}.gguf", vocabulary=vocabulary, layers=1)
            folder = Path(name) / kind
            cold = median(seconds(path, None) for _ in range(ROUNDS))
            seconds(path, folder)
            warm = median(seconds(path, folder) for _ in range(ROUNDS))
            print(f"{kind}: {len(vocabulary.tokens)} tokens: cold {cold:.2f} s, warm {warm:.2f} s")
        print_growth(Path(name))


if __name__ == "__main__":
    main()
