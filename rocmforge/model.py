"""A MODEL argument: a published name, or a GGUF that is prepared where it was not yet."""

from pathlib import Path

from rocmforge.apart import prepare_apart
from runtime.errors import ModelNotFound
from runtime.gguf import GGUFFile
from runtime.registry import Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer, TokenizerCache


def expect_known(model: str, settings: Settings) -> None:
    """Raise ModelNotFound for what is neither a published name nor a file."""
    if not Path(model).is_file():
        Registry(settings).resolve(model)


def prepared(model: str, settings: Settings) -> Path:
    """Folder of the prepared model; a GGUF that is not prepared yet is prepared, with progress.

    Raises ModelNotFound for what is neither published nor a file, and what preparation raises.
    """
    try:
        return Registry(settings).resolve(model)
    except ModelNotFound:
        if not Path(model).is_file():
            raise
    return prepare_apart(Path(model), settings)


def tokenizer_cache(settings: Settings) -> TokenizerCache:
    """The cache of built tokenizers below the cache folder."""
    return TokenizerCache(settings.cache_folder / "tokenizers")


def load(folder: Path, settings: Settings, cache: TokenizerCache) -> tuple[Session, Tokenizer]:
    """The session of a prepared model and its tokenizer."""
    session = Session(folder, settings=settings)
    weights = GGUFFile.open(session.manifest.weights_path(folder))
    return session, Tokenizer.from_gguf(weights, cache)
