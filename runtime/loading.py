"""A prepared model, loaded: its session and its tokenizer."""

from pathlib import Path

from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer, TokenizerCache


def tokenizer_cache(settings: Settings) -> TokenizerCache:
    """The cache of built tokenizers below the cache folder."""
    return TokenizerCache(settings.cache_folder / "tokenizers")


def load(folder: Path, settings: Settings, cache: TokenizerCache) -> tuple[Session, Tokenizer]:
    """The session of a prepared model and its tokenizer."""
    session = Session(folder, settings=settings)
    return session, Tokenizer.from_gguf(session.weights.gguf, cache)
