"""Builds the encoder of plain text, without control tokens, with the `tokenizers` library."""

from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from runtime.errors import GGUFError
from runtime.tokenizer.merges import MergeTable
from runtime.tokenizer.token_type import TokenType
from runtime.tokenizer.vocabulary import (
    BYTE_PAIR,
    SENTENCEPIECE,
    SPACE,
    UNIGRAM,
    WORDPIECE,
    Vocabulary,
)

EncodeText = Callable[[str], Sequence[int]]
"""Returns the tokens of plain text."""


def build_backend(vocabulary: Vocabulary, merges: MergeTable) -> EncodeText:
    """Return the encoder of plain text. Raises GGUFError for an inconsistent vocabulary.

    Its work is O(n) or O(n log n) in the length of the text, for every text.
    """
    if vocabulary.model == WORDPIECE:
        return _WordPiece(vocabulary)
    if vocabulary.model == UNIGRAM:
        backend = _unigram(vocabulary)
    elif vocabulary.model == BYTE_PAIR and vocabulary.split.byte_level:
        backend = _byte_level(vocabulary, merges)
    else:
        backend = _text_level(vocabulary, merges)

    def encode(text: str) -> Sequence[int]:
        return backend.encode(text, add_special_tokens=False).ids

    return encode


def _pairs(vocabulary: Vocabulary, merges: MergeTable) -> list[tuple[str, str]]:
    left, right = (map(vocabulary.tokens.__getitem__, column.tolist()) for column in merges.T)
    return list(zip(left, right, strict=True))


def _byte_level(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """Build a byte-pair encoder over bytes, written in GPT-2's alphabet."""
    rule = vocabulary.split
    backend = Tokenizer(
        models.BPE(
            vocabulary.by_text(vocabulary.merged()),
            _pairs(vocabulary, merges),
            ignore_merges=rule.ignore_merges,
        )
    )
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*_splits(vocabulary), to_bytes])
    return backend


def _text_level(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """Build a byte-pair encoder over text; unknown characters become the tokens of their bytes."""
    ids = vocabulary.by_text(sorted((*vocabulary.merged(), *vocabulary.of_type(TokenType.BYTE))))
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


class _WordPiece:
    """Each word's longest prefix that is a token, then that of the rest, as in llama.cpp.

    The library's own tries every prefix of a word, however long: the cube of its length.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """A GGUF marks the start of a word with SPACE."""
        texts = vocabulary.by_text(vocabulary.merged())
        self._unknown = _unknown(vocabulary)
        self._begins = {t[1:]: token for t, token in texts.items() if t.startswith(SPACE)}
        self._goes_on = {t: token for t, token in texts.items() if not t.startswith(SPACE)}
        self._longest = max(map(len, texts), default=0)
        normalization = vocabulary.normalization
        self._normalizer = normalizers.BertNormalizer(
            strip_accents=normalization.strip_accents, lowercase=normalization.lowercase
        )
        self._words = pre_tokenizers.BertPreTokenizer()

    def __call__(self, text: str) -> list[int]:
        words = self._words.pre_tokenize_str(self._normalizer.normalize_str(text))
        return [token for word, _ in words for token in self._word(word)]

    def _word(self, word: str) -> list[int]:
        tokens: list[int] = []
        known = self._begins
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                if (token := known.get(word[start:end])) is not None:
                    break
            else:
                return [self._unknown]
            tokens.append(token)
            start = end
            known = self._goes_on
        return tokens


def _unigram(vocabulary: Vocabulary) -> Tokenizer:
    """Build an encoder for the tokens with the best sum of scores."""
    matched = set(vocabulary.merged())
    unknown = _unknown(vocabulary)
    # Every id needs an entry; texts are cut without spaces, so these are never found.
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
    """Return GPT-2's alphabet: printable Latin-1 bytes are themselves, others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}
    return {chr(byte): bytes([byte]) for byte in printable} | shifted


BYTES_OF_CHARACTER = _bytes_of_character()


def byte_level_bytes(text: str) -> bytes:
    """Return the bytes of a byte-level token; other characters are their own UTF-8."""
    return b"".join(BYTES_OF_CHARACTER.get(character) or character.encode() for character in text)
