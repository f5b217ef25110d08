"""Builds the `tokenizers` object that cuts and merges plain text; it knows no control tokens."""

from gguf.constants import TokenType
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from runtime.tokenizer.merges import MERGED_TYPES, MergeTable
from runtime.tokenizer.vocabulary import SENTENCEPIECE, Vocabulary


def build_backend(vocabulary: Vocabulary, merges: MergeTable) -> Tokenizer:
    """A byte-pair encoder over everything that plain text may become."""
    texts = vocabulary.tokens
    left, right = (map(texts.__getitem__, column.tolist()) for column in merges.T)
    pairs = list(zip(left, right, strict=True))
    if vocabulary.model != SENTENCEPIECE:
        ids = vocabulary.ids(*MERGED_TYPES)
        rule = vocabulary.split
        backend = Tokenizer(models.BPE(ids, pairs, ignore_merges=rule.ignore_merges))
        splits = [
            pre_tokenizers.Split(Regex(expression), "isolated") for expression in rule.expressions
        ]
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
        return backend
    ids = vocabulary.ids(*MERGED_TYPES, TokenType.BYTE)
    unknown = vocabulary.unknown
    if unknown is not None:
        ids[texts[unknown]] = unknown
    return Tokenizer(
        models.BPE(
            ids,
            pairs,
            unk_token=None if unknown is None else texts[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )


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
