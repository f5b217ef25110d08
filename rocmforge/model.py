"""A MODEL argument: a published name, or a GGUF that is prepared where it was not yet."""

from pathlib import Path

from rocmforge.progress import Report
from runtime.errors import ModelNotFound
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer, TokenizerCache


def prepared(model: str, settings: Settings, report: Report) -> Path:
    """Folder of the prepared model.

    Raises ModelNotFound for a name that is neither published nor a file, and what preparation
    raises.
    """
    from pipelines.registry import Registry

    try:
        return Registry(settings).resolve(model)
    except ModelNotFound:
        if not Path(model).is_file():
            raise
    from pipelines.prepare import prepare

    return prepare(Path(model), settings, report)


def load(folder: Path, settings: Settings) -> tuple[Session, Tokenizer]:
    """The session of a prepared model and its tokenizer."""
    session = Session(folder, settings=settings)
    weights = GGUFFile.open(session.manifest.weights_path(folder))
    cache = TokenizerCache(settings.cache_folder / "tokenizers")
    return session, Tokenizer.from_gguf(weights, cache)
