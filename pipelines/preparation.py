"""Returns the prepared folder of a published name or of a GGUF, preparing it if necessary.

Preparing happens in a child process, which alone imports what converts and checks a model: a server
keeps neither its modules nor its memory.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from pipelines.model_files.locate import expect_name as expect_located
from pipelines.model_files.locate import located
from pipelines.model_files.names import HUB, scheme_of
from runtime.child_process import run_in_child
from runtime.errors import ChildDied, ModelNotFound, PreparationError, SettingsError
from runtime.extras import expect_installed
from runtime.files import is_file
from runtime.gguf import gguf_at
from runtime.progress import Amount, StepReport, uncounted
from runtime.registry import Registry, expect_name
from runtime.settings import Settings
from runtime.source import Content, Source

FUNCTION = "pipelines.prepare:carry_out"
GRAPH_PACKAGE = "onnx"
"""What writes graphs, and the extra `pipelines` installs."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `prepare`."""

    gguf: Path
    settings: Settings
    name: str | None
    replace: bool
    contents: tuple[Content, ...]
    """Of those files of the GGUF where it is known, which takes reading all of it."""


class Prepared(msgspec.Struct, frozen=True):
    """The published folder."""

    folder: Path


def expect_known(model: str, settings: Settings, name: str | None = None) -> None:
    """Raise ModelNotFound unless this is a published name, a GGUF or the name of one elsewhere.

    A GGUF is a file or its folder; of a model of the Hub only the form of the name is looked at.

    name: what a file is to be called; SettingsError where the model is none.
    """
    path = Path(model)
    if is_file(path):
        return
    if scheme_of(model) is not None or name is not None:
        if not expect_located(model, settings) and gguf_at(path) is None:
            raise SettingsError(f"--name is for a GGUF file, and {model} is none")
        return
    try:
        Registry(settings).resolve(model)
    except ModelNotFound:
        if gguf_at(path) is None and not expect_located(model, settings):
            raise


def prepared(
    model: str,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    name: str | None = None,
    replace: bool = False,
) -> Path:
    """Folder of a prepared model; a GGUF that is not prepared yet is prepared in a child process.

    progress, amount, name, replace: as for `prepare`. Raises ModelNotFound for what is neither
    published nor a file nor a name of one, DownloadError, MissingPackage, and what preparation
    raises.
    """
    registry = Registry(settings)
    if name is None and scheme_of(model) is None:
        try:
            return registry.resolve(model)
        except ModelNotFound:
            if gguf_at(Path(model)) is None and not expect_located(model, settings):
                raise
    if scheme_of(model) == HUB:
        expect_installed(GRAPH_PACKAGE)  # before it is fetched
    gguf, named = gguf_of(model, settings, progress)
    name = named if name is None else name
    if (published := registry.prepared_from(Source(gguf), name and expect_name(name))) is not None:
        return published.folder
    return prepare_in_child(gguf, settings, progress, amount, name=name, replace=replace)


def gguf_of(
    model: str, settings: Settings, progress: Callable[[str], None]
) -> tuple[Path, str | None]:
    """Return the GGUF that a path or a name means, and what it is to be called if that is unclear.

    Raises ModelNotFound and DownloadError.
    """
    if (gguf := gguf_at(Path(model))) is not None:
        return gguf, None
    if (found := located(model, settings, progress)) is not None:
        return found.path, found.published_name
    raise ModelNotFound(
        f"{model} is no GGUF file and no model of another program; name the GGUF to prepare"
    )


def prepare_in_child(
    gguf: Path,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    name: str | None = None,
    replace: bool = False,
) -> Path:
    """`prepare` in a child process, with the same arguments, result and errors.

    Raises PreparationError where the process dies, MissingPackage where only what serves is
    installed.
    """
    expect_installed(GRAPH_PACKAGE)
    try:
        return run_in_child(
            FUNCTION,
            Order(
                gguf=gguf,
                settings=settings,
                name=name,
                replace=replace,
                contents=Source(gguf).known_contents,
            ),
            lambda step: step.tell(progress, amount),
            progress=StepReport,
            answer=Prepared,
        ).folder
    except ChildDied as error:
        raise PreparationError(f"{gguf} is not prepared: {error}") from None
