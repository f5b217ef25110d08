"""Resources of the assets: the settings, the folder of GGUF files and the registry."""

import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from runtime.errors import GGUFError, ModelNotFound
from runtime.files import locked
from runtime.gguf import PieceName, model_stem, pieces_of
from runtime.registry import Registry, model_name
from runtime.settings import Settings

# Dagster refuses these in a partition's key.
NO_KEY = re.compile(r"\.\.\.|[\0\a\b\f\n\r\t\v]")

MACHINE_POOL = "machine"
"""The pool of steps that use the whole machine; one of their runs executes at a time."""


@dataclass(frozen=True, slots=True)
class IncomingFiles:
    """The folder of GGUF files at one moment. Immutable."""

    files: Mapping[str, Path]
    """By partition key: the file's name without its suffix, and without the number of a piece."""
    ignored: tuple[str, ...]
    """A phrase for each entry that looks like a GGUF and is none that can be prepared."""


class ModelPreparation(dg.ConfigurableResource[None]):
    """Folders and registry of models. A field that is None is read from `ROCMFORGE_*`."""

    home: str | None = None
    gguf_folder: str | None = None

    @property
    def settings(self) -> Settings:
        """The project's settings. Raises SettingsError for a value that does not fit."""
        return Settings.from_environment(home=self.home, gguf_folder=self.gguf_folder)

    @property
    def registry(self) -> Registry:
        """The published models."""
        return Registry(self.settings)

    def incoming(self) -> IncomingFiles:
        """Return the current files: names ending in .gguf, in any case, that are not hidden.

        A model in pieces is its first file, once all are there.
        """
        files: dict[str, Path] = {}
        names: dict[str, str] = {}
        ignored: list[str] = []
        for path in sorted(self.settings.incoming_folder.glob("[!.]*")):
            if path.suffix.lower() != ".gguf":
                continue
            if (piece := PieceName.of(path)) is not None:
                first = path.with_name(piece.names()[0])
                if path != first and first.exists():
                    continue  # reported with the first piece
            problem = _problem(path)
            other = names.setdefault(model_name(path), path.name)
            if problem is None and other != path.name:
                problem = f"would be published under the same name as {other}; rename it"
            if problem is None:
                files[model_stem(path)] = path
            else:
                ignored.append(f"{path.name!r} {problem}")
        return IncomingFiles(files, tuple(ignored))

    def gguf(self, partition_key: str) -> Path:
        """Return the file of a partition. Raises ModelNotFound if there is none."""
        incoming = self.incoming()
        if (path := incoming.files.get(partition_key)) is not None:
            return path
        folder = self.settings.incoming_folder
        ignored = "".join(f"; {each}" for each in incoming.ignored)
        raise ModelNotFound(f"{partition_key}.gguf is no file in {folder}; put it there{ignored}")

    @contextmanager
    def machine(self) -> Iterator[None]:
        """Hold this machine's processors alone, among the steps of all runs; waits for them.

        The queue of runs lets one go at a time; what is started from a terminal passes it by.
        """
        with locked(self.settings.home / f"machine-{socket.gethostname()}.lock"):
            yield


def _problem(path: Path) -> str | None:
    """Return why an entry of the folder cannot be prepared; None if it can be, or is gone."""
    if NO_KEY.search(path.stem) is not None:
        return "has '...' or a control character in its name, which Dagster takes for no partition"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISREG(mode):
        return _missing_piece(path)
    return "is a folder" if stat.S_ISDIR(mode) else "is no regular file"


def _missing_piece(path: Path) -> str | None:
    """Return which piece of a model is waited for; None if it is all there."""
    try:
        pieces_of(path)
    except GGUFError as error:
        return f"waits for its other pieces: {error}"
    return None
