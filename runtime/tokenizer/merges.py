"""The merges of a vocabulary as a table of token ids; slow to make, so it is cached."""

import numpy as np
import numpy.typing as npt

from runtime.errors import GGUFError
from runtime.gguf import GGUFFile, StringArray
from runtime.tokenizer.vocabulary import BYTE_PAIR, SENTENCEPIECE, Vocabulary

MergeTable = npt.NDArray[np.int32]
"""int32 [merges, 2]: left and right token, in order of priority."""


def read_merges(file: GGUFFile, vocabulary: Vocabulary) -> MergeTable:
    """Return the merges that the file lists or, for SentencePiece, that its scores imply.

    WordPiece and Unigram have none.
    """
    if vocabulary.model == SENTENCEPIECE:
        return _scored_merges(vocabulary)
    return _listed_merges(file, vocabulary) if vocabulary.model == BYTE_PAIR else _table([])


def _listed_merges(file: GGUFFile, vocabulary: Vocabulary) -> MergeTable:
    """Return the merges in the file, without those that contain no tokens."""
    lines = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(lines, StringArray):
        raise GGUFError(f"{file.path}: tokenizer.ggml.merges is missing; convert the model anew")
    ids = vocabulary.by_text(vocabulary.merged())
    pairs: list[int] = []
    for line in dict.fromkeys(lines):  # the first of duplicates counts
        left, _, right = line.partition(" ")
        if left in ids and right in ids and left + right in ids:
            pairs += ids[left], ids[right]
    return _table(pairs)


def _scored_merges(vocabulary: Vocabulary) -> MergeTable:
    """Return every way to make a token of two others, the best score first, then the lower id."""
    scores = vocabulary.scores
    ids = vocabulary.by_text(vocabulary.merged())
    pairs: list[int] = []
    merged: list[int] = []
    for text, token in ids.items():
        for cut in range(1, len(text)):
            left = ids.get(text[:cut])
            if left is not None and (right := ids.get(text[cut:])) is not None:
                pairs += left, right
                merged.append(token)
    made = np.asarray(merged, np.int64)
    return _table(pairs)[np.lexsort((made, -scores[made]))]


def _table(pairs: list[int]) -> MergeTable:
    return np.array(pairs, np.int32).reshape(-1, 2)
