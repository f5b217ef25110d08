"""Returns the prepared folder of a published name or of a GGUF, preparing it if necessary.

Preparing happens in a child process, which alone imports what converts and checks a model: a server
keeps neither its modules nor its memory.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime.child_process import run_in_child
from runtime.errors import ChildDied, ModelNotFound, PreparationError, SettingsError
from runtime.files import is_file
from runtime.registry import Registry, expect_name
from runtime.settings import Settings
from runtime.source import Content, Source

FUNCTION = "pipelines.prepare:carry_out"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `prepare`."""

    gguf: Path
    settings: Settings
    name: str | None
    replace: bool
    content: Content | None
    """Of the GGUF, if it is known, which takes reading all of it."""


class Step(msgspec.Struct, frozen=True):
    """A step of a preparation that begins."""

    name: str


class Prepared(msgspec.Struct, frozen=True):
    """The published folder."""

    folder: Path


def expect_known(model: str, settings: Settings, name: str | None = None) -> None:
    """Raise ModelNotFound unless this is a published name or a file.

    name: what a file is to be called; SettingsError where the model is none.
    """
    if is_file(Path(model)):
        return
    if name is not None:
        raise SettingsError(f"--name is for a GGUF file, and {model} is none")
    Registry(settings).resolve(model)


def prepared(
    model: str,
    settings: Settings,
    progress: Callable[[str], None],
    *,
    name: str | None = None,
    replace: bool = False,
) -> Path:
    """Folder of a prepared model; a GGUF that is not prepared yet is prepared in a child process.

    progress, name, replace: as for `prepare`. Raises ModelNotFound for what is neither published
    nor a file, and what preparation raises.
    """
    registry = Registry(settings)
    gguf = Path(model)
    try:
        if name is None:
            return registry.resolve(model)
        if (published := registry.prepared_from(Source(gguf), expect_name(name))) is not None:
            return published.folder
    except ModelNotFound:
        if not is_file(gguf):
            raise
    return prepare_in_child(gguf, settings, progress, name=name, replace=replace)


def prepare_in_child(
    gguf: Path,
    settings: Settings,
    progress: Callable[[str], None],
    *,
    name: str | None = None,
    replace: bool = False,
) -> Path:
    """`prepare` in a child process, with the same arguments, result and errors.

    Raises PreparationError where the process dies.
    """
    try:
        return run_in_child(
            FUNCTION,
            Order(
                gguf=gguf,
                settings=settings,
                name=name,
                replace=replace,
                content=Source(gguf).known_content,
            ),
            lambda step: progress(step.name),
            progress=Step,
            answer=Prepared,
        ).folder
    except ChildDied as error:
        raise PreparationError(f"{gguf} is not prepared: {error}") from None
