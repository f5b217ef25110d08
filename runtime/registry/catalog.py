"""Reads the published models: `<models folder>/<name>/versions/<n>`, and the link `current`.

A model without `current` is retired: its versions stay, and a rollback brings it back.
"""

import os
from pathlib import Path

from runtime.errors import ModelNotFound
from runtime.files import is_file
from runtime.gguf import gguf_at
from runtime.manifest import MANIFEST_NAME, Manifest
from runtime.registry.history import History, read_history
from runtime.registry.names import expect_name, is_name, model_name
from runtime.registry.version import (
    BrokenVersion,
    PublishedModel,
    read_version,
    version_number,
    version_of,
)
from runtime.settings import Settings
from runtime.source import Source

CURRENT = "current"
VERSIONS = "versions"


class Catalog:
    """Reads the models folder, and writes nothing. Immutable, safe for concurrent threads.

    Methods that take a name raise InvalidName before making a path of it. A PublishedModel has all
    its files; versions that do not are returned by `broken` and affect nothing else.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.models_folder

    def names(self) -> list[str]:
        """Return every model that has a version, including retired and broken ones."""
        return [
            folder.name
            for folder in folders_in(self.folder)
            if is_name(folder.name) and self._version_folders(folder.name)
        ]

    def models(self) -> list[PublishedModel]:
        """Return the current version of every model, by name."""
        return [model for name in self.names() if (model := self.current(name)) is not None]

    def current(self, name: str) -> PublishedModel | None:
        """Return the version of a model that is served; None if there is none."""
        model = self.pointed_at(name)
        return model if isinstance(model, PublishedModel) else None

    def pointed_at(self, name: str) -> PublishedModel | BrokenVersion | None:
        """Return the version that `current` names, broken or not; None if the model is retired."""
        number = self._current_number(name)
        return None if number is None else read_version(name, self._version_folder(name, number))

    def versions(self, name: str) -> list[PublishedModel]:
        """Return every version of a model that has its files, the newest first."""
        return [model for model in self._versions(name) if isinstance(model, PublishedModel)]

    def broken(self, name: str) -> list[BrokenVersion]:
        """Return every version of a model that cannot be loaded, the newest first."""
        return [model for model in self._versions(name) if isinstance(model, BrokenVersion)]

    def version(self, name: str, version: int) -> PublishedModel:
        """Return one version of a model.

        Raises ModelNotFound if it does not exist, BrokenModel if it cannot be loaded.
        """
        found = self._versions(name)
        for model in found:
            if model.version == version:
                return _whole(model)
        known = ", ".join(str(model.version) for model in found) or "none"
        raise ModelNotFound(f"{name} has no version {version}; kept: {known}")

    def previous(self, name: str, version: int | None = None) -> PublishedModel | None:
        """Return the version that was current before a version, by default the current one.

        It has its files and fits this build. For a retired model it is the last current version.
        """
        candidates = self._before(name, version)
        return next((model for model in candidates if model.fits), None)

    def resolve(self, model: str | Path) -> Path:
        """Return the folder of a published name, of `NAME@VERSION`, or of a published GGUF.

        A prepared folder is returned unchanged.

        Raises BrokenModel for a version that cannot be loaded, ModelNotFound for anything else,
        including a GGUF that must be prepared first.
        """
        path = Path(model)
        if (published := self._named(str(model))) is not None:
            if not published.fits:
                raise ModelNotFound(
                    f"{model} was prepared by another build; run `{published.manifest.remedy}`"
                )
            return published.folder
        if is_file(path / MANIFEST_NAME):
            return path.absolute()
        if (gguf := gguf_at(path)) is not None:
            if (known := self.prepared_from(Source(gguf))) is not None:
                return known.folder
            raise ModelNotFound(f"{model} is not prepared yet; run `rocmforge prepare {model}`")
        if is_name(str(model)) and self._version_folders(str(model)):
            raise ModelNotFound(f"{model} is retired; run `rocmforge rollback {model}` to serve it")
        known_names = ", ".join(model.name for model in self.models()) or "none"
        raise ModelNotFound(
            f"{model} is neither a GGUF file nor a published model; published: {known_names}"
        )

    def prepared_from(self, source: Source, name: str | None = None) -> PublishedModel | None:
        """Return the newest version, fit for this build, that was made from a GGUF file.

        It has the file's content, and its name: by default that of the file, or another under which
        this very file was published. A copy elsewhere belongs to a model of its own.
        """
        called = model_name(source.path) if name is None else name
        known = self.find(source, called)
        if known is None or known.name == called:
            return known
        return known if name is None and known.is_made_of(source.path) else None

    def find(self, source: Source, name: str) -> PublishedModel | None:
        """Return the newest version, fit for this build, with the content of this GGUF.

        Prefers one called `name`, then one made from this very file, then any other.
        The same file with the same size and time is recognized at once; else content decides.
        """
        path, size, states = source.file_path, source.size, [file.state for file in source.files]
        candidates = [
            model
            for each in self.names()
            for model in self.versions(each)
            if model.manifest.weights.size == size and model.fits
        ]
        candidates.sort(key=lambda model: (model.name != name, not model.is_made_of(path)))
        for model in candidates:
            weights = model.manifest.weights
            seen = [(state.size, state.modified_ns) for state in states]
            known = [(file.size, file.modified_ns) for file in weights.files]
            if known == seen and model.is_the_file(path):
                return model
            if weights.sha256 == source.sha256:
                return model
        return None

    def same_as(self, manifest: Manifest) -> PublishedModel | None:
        """Return the newest version of a model made from the same GGUF by the same programs."""
        return next(
            (
                model
                for model in self.versions(manifest.name)
                if model.manifest.weights.sha256 == manifest.weights.sha256
                and model.manifest.graph_sha256 == manifest.graph_sha256
                and model.manifest.versions == manifest.versions
            ),
            None,
        )

    def _home(self, name: str) -> Path:
        """Return a model's folder. Raises InvalidName: every path with a name is made here."""
        return self.folder / expect_name(name)

    def _version_folder(self, name: str, version: int) -> Path:
        return self._home(name) / VERSIONS / str(version)

    def _version_folders(self, name: str) -> list[Path]:
        """Return the folders of a model's versions, whatever they contain, the newest first."""
        folders = [each for each in folders_in(self._home(name) / VERSIONS) if version_number(each)]
        return sorted(folders, key=version_number, reverse=True)

    def _versions(self, name: str) -> list[PublishedModel | BrokenVersion]:
        found = (read_version(name, folder) for folder in self._version_folders(name))
        return [model for model in found if model is not None]

    def _current_number(self, name: str) -> int | None:
        """Return the version that `current` names; None if it is missing or invalid."""
        try:
            target = Path(os.readlink(self._home(name) / CURRENT))
        except OSError:
            return None
        number = version_number(target)
        return number if target == Path(VERSIONS, str(number)) else None

    def _named(self, model: str) -> PublishedModel | None:
        """Return the version that NAME or NAME@VERSION means; None if there is no such model."""
        name, separator, version = model.partition("@")
        if not is_name(name):
            return None
        if separator:
            number = version_of(version)
            return self.version(name, number) if number and self._version_folders(name) else None
        pointed_at = self.pointed_at(name)
        return None if pointed_at is None else _whole(pointed_at)

    def _history(self, name: str) -> History:
        """Return what was current until now; if that is unknown, every earlier version."""
        current = self._current_number(name)
        history = read_history(self._home(name))
        if history is None:  # of an earlier build, or lost
            numbers = sorted(model.version for model in self.versions(name))
            history = History(tuple(n for n in numbers if current is None or n < current))
        return history if current is None else history.until(current)

    def _before(self, name: str, version: int | None) -> list[PublishedModel]:
        """Return what was current before a version, the newest first; see `previous`."""
        whole = {model.version: model for model in self.versions(name)}
        numbers = self._history(name).versions
        version = self._current_number(name) if version is None else version
        if version in numbers:
            numbers = numbers[: numbers.index(version)]
        elif version is not None:
            numbers = tuple(n for n in sorted(whole) if n < version)
        return [whole[n] for n in reversed(numbers) if n in whole]


def _whole(model: PublishedModel | BrokenVersion) -> PublishedModel:
    """Return the version. Raises BrokenModel if it cannot be loaded."""
    if isinstance(model, BrokenVersion):
        raise model.error
    return model


def folders_in(folder: Path) -> list[Path]:
    """Return subfolders by name; none if the folder cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []
