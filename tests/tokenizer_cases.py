"""Small vocabularies of every kind of tokenizer, and the texts that are tried on them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
from gguf import GGUFWriter, TokenType

from runtime.tokenizer.splits import SPLIT_RULES
from tests.models import Vocabulary, byte_characters, sentencepiece_vocabulary

TEXTS = (
    "Hello world, it's 2026 and we'RE here!\n\n  indented\tcode();\r\n",
    "1 12 123 1234 12345 1234567 3.14 3,000 a1b22",
    "camelcase HTTPServer ABCdef x_y snake_case //path/to #tag $5 (a+b)==c ~`^|",
    "   three  two one \n \n\n\n   end   ",
    "naïve ÉCOLE Straße привет МИР ἀρχή ｆｕｌｌ ① ½ ²",
    "漢字かなカナ 中文。「引」 한국어 ไทย العربية עברית हिन्दी ქართული",
    "🦙 👨‍👩‍👧 …—“q” ‘x’ !? ?! ...",
    "<sentinel:12> IMGIMGABZ <|im_start|> </s> [MASK]",
)
MONOTONOUS = (" ", "a", "ab", "1", "\n", " \n", "x\n", "!", "e\u0301", "\u0301", "漢", "🦙", "a ")
"""Pieces that a text may repeat until the work of a careless tokenizer has no end."""
WORDS = ("▁the", "▁hello", "▁world", "▁it", "▁into", "ing", "▁camel", "case", "▁na", "ve")
LEARNED = 700


def vocabularies() -> Iterator[tuple[str, Vocabulary]]:
    """Every name of a split on one vocabulary, then the other kinds of tokenizer."""
    for pre, rule in SPLIT_RULES.items():
        yield pre, replace(byte_level() if rule.byte_level else text_level(), pre=pre)
    yield "gemma4 (model)", replace(text_level(), model="gemma4", pre="gemma4")
    yield "llama", sentencepiece_vocabulary(WORDS)
    yield "bert", word_piece()
    yield "t5", unigram()


@cache
def byte_level() -> Vocabulary:
    """Merges learned across words, so that wherever words are parted the tokens show it."""
    characters = byte_characters()
    pieces = [[characters[byte] for byte in text.encode()] for text in TEXTS]
    merges = _learned_merges(pieces)
    tokens = ["<|endoftext|>", *characters, *dict.fromkeys(left + right for left, right in merges)]
    return Vocabulary(
        model="gpt2",
        pre="default",
        tokens=tokens,
        types=[TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)],
        merges=[f"{left} {right}" for left, right in merges],
    )


@cache
def text_level() -> Vocabulary:
    """The same over text, where ▁ is a space and what is no token falls back to bytes."""
    pieces = [list(text.replace(" ", "▁").replace("🦙", "")) for text in TEXTS]
    letters = sorted({letter for piece in pieces for letter in piece})
    merges = _learned_merges(pieces)
    texts = list(dict.fromkeys([*letters, *(left + right for left, right in merges)]))
    tokens = ["<pad>", "<eos>", "<bos>", *(f"<0x{byte:02X}>" for byte in range(256)), *texts]
    types = [TokenType.CONTROL] * 3 + [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(texts)
    merged = [f"{left} {right}" for left, right in merges]
    return Vocabulary("gpt2", "gemma4", tokens, types, merges=merged, bos=2, eos=1)


def word_piece() -> Vocabulary:
    """Words, parts of words and single letters; accents and case are dropped before."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    types = [TokenType.CONTROL] * len(tokens)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", *"漢字かな.,!?'/#$()+=_-<>[]|…"]
    pieces = [*WORDS, "llo", "hel", *letters, *(f"▁{letter}" for letter in letters)]
    return WordPieceVocabulary(
        model="bert",
        pre="bert-bge",
        tokens=tokens + pieces,
        types=types + [TokenType.NORMAL] * len(pieces),
        bos=2,
        eos=3,
        unknown=1,
    )


def unigram() -> Vocabulary:
    """Pieces with scores such that the best cut is not the greedy one."""
    tokens = ["<pad>", "</s>", "<unk>"]
    types = [TokenType.CONTROL, TokenType.CONTROL, TokenType.UNKNOWN]
    pieces = [*WORDS, "▁hel", "lo▁", "wor", "ld", *"▁abcdefghijklmnopqrstuvwxyz0123456789,.漢字"]
    random = np.random.default_rng(3)
    scores = (-random.uniform(1, 9, len(pieces)) / 3).astype(np.float32).tolist()
    return UnigramVocabulary(
        model="t5",
        pre="default",
        tokens=tokens + pieces,
        types=types + [TokenType.NORMAL] * len(pieces),
        scores=[0.0] * len(tokens) + scores,
        bos=0,
        eos=1,
        unknown=2,
        add_space_prefix=True,
    )


class WordPieceVocabulary(Vocabulary):
    """One that names what ends a text."""

    def write(self, writer: GGUFWriter) -> None:
        super().write(writer)
        assert isinstance(self.eos, int)
        writer.add_sep_token_id(self.eos)


class UnigramVocabulary(Vocabulary):
    """One whose runs of spaces count as one."""

    def write(self, writer: GGUFWriter) -> None:
        super().write(writer)
        writer.add_remove_extra_whitespaces(True)


def _learned_merges(pieces: list[list[str]]) -> list[tuple[str, str]]:
    """The pair that is met most often, again and again; of equals the first met."""
    merges: list[tuple[str, str]] = []
    while len(merges) < LEARNED:
        met = Counter(pair for piece in pieces for pair in pairwise(piece))
        if not met:
            break
        left, right = max(met, key=lambda pair: met[pair])
        merges.append((left, right))
        for piece in pieces:
            for place in range(len(piece) - 2, -1, -1):
                if piece[place : place + 2] == [left, right]:
                    piece[place : place + 2] = [left + right]
    return merges
