"""Text to tokens and back: a GGUF's vocabulary, run by the `tokenizers` library."""

from runtime.tokenizer.cache import CacheStatistics, TokenizerCache
from runtime.tokenizer.tokenizer import Tokenizer, Watch, unwatched, well_formed
from runtime.tokenizer.vocabulary import FillInTokens

__all__ = [
    "CacheStatistics",
    "FillInTokens",
    "Tokenizer",
    "TokenizerCache",
    "Watch",
    "unwatched",
    "well_formed",
]
