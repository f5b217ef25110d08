"""Builds the `tokenizers` object that cuts plain text into tokens; it knows no control tokens."""

from gguf.constants import TokenType
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from runtime.errors import GGUFError
from runtime.tokenizer.merges import MERGED_TYPES, MergeTable
from runtime.tokenizer.vocabulary import (
    BYTE_PAIR,
    SENTENCEPIECE,
    SPACE,
    UNIGRAM,
    WORDPIECE,
    Vocabulary,
)

LONGEST_WORD = 1 << 30
"""Characters of a word that WordPiece still cuts: any."""


def build_backend(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """What encodes plain text. Raises GGUFError for a vocabulary that does not fit together."""
    if vocabulary.model == WORDPIECE:
        return _word_piece(vocabulary)
    if vocabulary.model == UNIGRAM:
        return _unigram(vocabulary)
    byte_level = vocabulary.model == BYTE_PAIR and vocabulary.split.byte_level
    return _byte_level(vocabulary, merges) if byte_level else _text_level(vocabulary, merges)


def _pairs(vocabulary: Vocabulary, merges: MergeTable) -> list[tuple[str, str]]:
    left, right = (map(vocabulary.tokens.__getitem__, column.tolist()) for column in merges.T)
    return list(zip(left, right, strict=True))


def _byte_level(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """A byte-pair encoder over bytes that are written in GPT-2's alphabet."""
    rule = vocabulary.split
    backend = Tokenizer(
        models.BPE(
            vocabulary.ids(*MERGED_TYPES),
            _pairs(vocabulary, merges),
            ignore_merges=rule.ignore_merges,
        )
    )
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*_splits(vocabulary), to_bytes])
    return backend


def _text_level(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """A byte-pair encoder over text; a character that is no token becomes its bytes' tokens."""
    ids = vocabulary.ids(*MERGED_TYPES, TokenType.BYTE)
    unknown = vocabulary.unknown if vocabulary.model == SENTENCEPIECE else None
    if unknown is not None:
        ids[vocabulary.tokens[unknown]] = unknown
    backend = Tokenizer(
        models.BPE(
            ids,
            _pairs(vocabulary, merges),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
            ignore_merges=vocabulary.split.ignore_merges,
        )
    )
    if splits := _splits(vocabulary):
        backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
    return backend


def _splits(vocabulary: Vocabulary) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(expression), "isolated")
        for expression in vocabulary.split.expressions
    ]


def _word_piece(vocabulary: Vocabulary) -> Tokenizer:
    """Each word's longest beginning that is a token, then that of the rest, as BERT does it.

    A GGUF marks what begins a word with SPACE, the library what goes on in one with ##.
    """
    ids = {
        text.removeprefix(SPACE) if text.startswith(SPACE) else f"##{text}": token
        for text, token in vocabulary.ids(*MERGED_TYPES).items()
    }
    unknown = _unknown(vocabulary)
    ids[vocabulary.tokens[unknown]] = unknown
    backend = Tokenizer(
        models.WordPiece(
            ids,
            unk_token=vocabulary.tokens[unknown],
            max_input_chars_per_word=LONGEST_WORD,
        )
    )
    normalization = vocabulary.normalization
    backend.normalizer = normalizers.BertNormalizer(
        strip_accents=normalization.strip_accents, lowercase=normalization.lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _unigram(vocabulary: Vocabulary) -> Tokenizer:
    """The tokens that together have the best sum of scores."""
    matched = set(vocabulary.of_type(*MERGED_TYPES))
    unknown = _unknown(vocabulary)
    # Every id needs an entry; no text holds a space when it is cut, so these are never found.
    scored = [
        (text if token in matched else f" {token}", score)
        for token, (text, score) in enumerate(
            zip(vocabulary.tokens, vocabulary.scores.tolist(), strict=True)
        )
    ]
    backend = Tokenizer(models.Unigram(scored, unk_id=unknown, byte_fallback=False))
    normalization = vocabulary.normalization
    steps: list[normalizers.Normalizer] = []
    if normalization.character_map:
        try:
            steps.append(normalizers.Precompiled(normalization.character_map))
        except Exception as error:  # the library raises nothing narrower
            raise GGUFError(
                f"tokenizer.ggml.precompiled_charsmap cannot be read: {error}; convert anew"
            ) from None
    if normalization.merge_spaces:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if normalization.merge_spaces or vocabulary.add_space_prefix:
        steps.append(normalizers.Prepend(" "))
    steps.append(normalizers.Replace(" ", SPACE))
    backend.normalizer = normalizers.Sequence(steps)
    return backend


def _unknown(vocabulary: Vocabulary) -> int:
    if vocabulary.unknown is None:
        raise GGUFError(
            f"tokenizer.ggml.unknown_token_id is missing, which {vocabulary.model!r} needs; "
            "convert the model anew"
        )
    return vocabulary.unknown


def _bytes_of_character() -> dict[str, bytes]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}
    return {chr(byte): bytes([byte]) for byte in printable} | shifted


BYTES_OF_CHARACTER = _bytes_of_character()


def byte_level_bytes(text: str) -> bytes:
    """Bytes of a byte-level token; a character outside the alphabet stands for its own UTF-8."""
    return b"".join(BYTES_OF_CHARACTER.get(character) or character.encode() for character in text)
