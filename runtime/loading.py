"""Loads the session and the tokenizer of a prepared model."""

from pathlib import Path

from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer, TokenizerCache
from runtime.turns import Turns


def tokenizer_cache(settings: Settings) -> TokenizerCache:
    """Return the cache of built tokenizers below the cache folder."""
    return TokenizerCache(settings.cache_folder / "tokenizers")


def load(
    folder: Path, settings: Settings, cache: TokenizerCache, turns: Turns | None = None
) -> tuple[Session, Tokenizer]:
    """Return the session and the tokenizer of a prepared model.

    turns: shared by the sessions that take turns on the processors.
    """
    session = Session(folder, settings=settings, turns=turns)
    return session, Tokenizer.from_gguf(session.weights.gguf, cache)
