"""A MODEL argument: a published name, or a GGUF that is prepared where it was not yet."""

from pathlib import Path

from rocmforge.apart import prepare_apart
from runtime.errors import ModelNotFound, SettingsError
from runtime.files import is_file
from runtime.registry import Registry, expect_name
from runtime.settings import Settings


def expect_known(model: str, settings: Settings, name: str | None = None) -> None:
    """Raise ModelNotFound for what is neither a published name nor a file.

    name: what a file is to be called; SettingsError where the model is none.
    """
    if is_file(Path(model)):
        return
    if name is not None:
        raise SettingsError(f"--name is for a GGUF file, and {model} is none")
    Registry(settings).resolve(model)


def prepared(
    model: str, settings: Settings, *, name: str | None = None, replace: bool = False
) -> Path:
    """Folder of the prepared model; a GGUF that is not prepared yet is prepared, with progress.

    name, replace: as for `rocmforge prepare`. Raises ModelNotFound for what is neither published
    nor a file, and what preparation raises.
    """
    registry = Registry(settings)
    gguf = Path(model)
    try:
        if name is None:
            return registry.resolve(model)
        if (published := registry.prepared_from(gguf, expect_name(name))) is not None:
            return published.folder
    except ModelNotFound:
        if not is_file(gguf):
            raise
    return prepare_apart(gguf, settings, name=name, replace=replace)
