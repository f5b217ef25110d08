"""The published models: `<models folder>/<name>/versions/<n>`, and `current` that points at one.

A version is made in a staging folder on the same file system and appears by one rename, so a
half-made model is never seen; `current` is replaced the same way. A model without `current` is
retired: its versions stay, and a rollback brings it back.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ModelNotFound, PreparationError
from runtime.files import file_sha256, locked, sync
from runtime.manifest import GRAPH_VERSION, MANIFEST_NAME, Manifest, held_alone
from runtime.packed_weights import remove_packed
from runtime.settings import Settings

LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One version of a model that can be served. Immutable."""

    name: str
    version: int
    folder: Path
    manifest: Manifest

    @property
    def fits(self) -> bool:
        """Whether this build can run it."""
        return self.manifest.versions.get("graph") == GRAPH_VERSION

    def is_loaded(self) -> bool:
        """Whether some process has it loaded at this moment."""
        with held_alone(self.folder) as alone:
            return not alone


def model_name(path: Path) -> str:
    """Name under which a GGUF is published: its stem, in letters that suit folders and URLs."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)[:LONGEST_NAME].strip("-.")
    return name or "model"


class Registry:
    """The models folder on disk. Immutable, safe for concurrent threads and processes."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.models_folder
        self._packed_folder = settings.packed_folder
        self._keep_versions = settings.keep_versions

    def names(self) -> list[str]:
        """Every model that has a version, retired ones included."""
        return [folder.name for folder in _folders(self.folder) if self.versions(folder.name)]

    def models(self) -> list[PublishedModel]:
        """The current version of every model, by name."""
        return [
            model
            for folder in _folders(self.folder)
            if (model := self.current(folder.name)) is not None
        ]

    def current(self, name: str) -> PublishedModel | None:
        """The version of a model that is served; None where there is none."""
        try:
            # Resolved, so that whoever loads it keeps one version whatever is published meanwhile.
            folder = (self.folder / name / "current").resolve(strict=True)
        except OSError:
            return None
        return _published(name, folder)

    def versions(self, name: str) -> list[PublishedModel]:
        """Every version of a model, the newest first."""
        found = [_published(name, folder) for folder in _folders(self.folder / name / "versions")]
        return sorted(filter(None, found), key=lambda model: -model.version)

    def version(self, name: str, version: int) -> PublishedModel:
        """One version of a model. Raises ModelNotFound where it is not kept."""
        versions = self.versions(name)
        for model in versions:
            if model.version == version:
                return model
        known = ", ".join(str(model.version) for model in versions) or "none"
        raise ModelNotFound(f"{name} has no version {version}; kept: {known}")

    def previous(self, name: str) -> PublishedModel | None:
        """The newest version before the current one, or the newest of a retired model."""
        current = self.current(name)
        return next(
            (
                model
                for model in self.versions(name)
                if model.fits and (current is None or model.version < current.version)
            ),
            None,
        )

    def resolve(self, model: str | Path) -> Path:
        """Folder of a published name, of `NAME@VERSION`, or of a GGUF that was published before.

        A prepared folder itself is taken as it is.

        Raises ModelNotFound for anything else, a GGUF that must be prepared first included.
        """
        path = Path(model)
        if len(path.parts) == 1 and (published := self._named(str(model))) is not None:
            if not published.fits:
                source = published.manifest.weights.path
                raise ModelNotFound(
                    f"{model} was prepared by another build; run `rocmforge prepare {source}`"
                )
            return published.folder
        if (path / MANIFEST_NAME).is_file():
            return path.absolute()
        if path.is_file():
            if (published := self.find(path)) is not None:
                return published.folder
            raise ModelNotFound(f"{model} is not prepared yet; run `rocmforge prepare {model}`")
        if len(path.parts) == 1 and self.versions(str(model)):
            raise ModelNotFound(f"{model} is retired; run `rocmforge rollback {model}` to serve it")
        known = ", ".join(model.name for model in self.models()) or "none"
        raise ModelNotFound(
            f"{model} is neither a GGUF file nor a published model; published: {known}"
        )

    def find(self, path: Path) -> PublishedModel | None:
        """The newest version, fit for this build, that was made of the content of this GGUF.

        The same file of the same size and time is known at once; else content decides.
        """
        path = path.resolve()
        status = path.stat()
        candidates = [
            model
            for model in self._all_versions()
            if model.manifest.weights.size == status.st_size
            and model.fits
            and model.manifest.weights_path(model.folder).is_file()
        ]
        for model in candidates:
            weights = model.manifest.weights
            is_same_file = weights.path == str(path) or path.samefile(
                model.manifest.weights_path(model.folder)
            )
            if is_same_file and weights.modified_ns == status.st_mtime_ns:
                return model
        sha256 = file_sha256(path) if candidates else ""
        return next((each for each in candidates if each.manifest.weights.sha256 == sha256), None)

    @contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        """Hold the right to prepare a model; a second preparation of it waits here."""
        with locked(self.folder / name / "prepare.lock"):
            yield

    def new_staging(self, name: str, owner: str) -> Path:
        """An empty folder to make a version in. What `owner` left behind there is removed."""
        folder = self.folder / name / "staging" / owner
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def stagings(self, name: str) -> list[Path]:
        """Folders in which versions of a model are being made, or were left behind."""
        return _folders(self.folder / name / "staging")

    def publish(self, staging: Path, manifest: Manifest) -> Path:
        """Make a staging folder the current version of its model and return its new place.

        Everything is on disk before it becomes visible. Of the versions the newest
        `settings.keep_versions` stay, and those that are loaded somewhere. Raises
        PreparationError where a check of the manifest failed.
        """
        failed = [check for check in manifest.checks if not check.passed]
        if failed:
            raise PreparationError(f"{manifest.name} is not published: {failed[0].summary}")
        home = self.folder / manifest.name
        versions = home / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        manifest.write(staging)
        for file in staging.iterdir():
            sync(file)
        sync(staging)
        with self._changing(manifest.name):
            version = 1 + max((version_number(folder) for folder in _folders(versions)), default=0)
            folder = versions / str(version)
            staging.rename(folder)
            sync(versions)
            self._point(home, folder)
            self._prune(manifest.name)
        return folder

    def rollback(self, name: str, version: int | None = None) -> PublishedModel:
        """Make another version current, by default the one before, and give it.

        A running server takes it over; of a retired model the newest comes back. Raises
        ModelNotFound where there is none.
        """
        with self._changing(name):
            if version is not None:
                wanted = self.version(name, version)
                if not wanted.fits:
                    raise ModelNotFound(f"version {version} of {name} is of another build")
            elif (previous := self.previous(name)) is not None:
                wanted = previous
            else:
                known = ", ".join(self.names()) or "none"
                raise ModelNotFound(f"{name} has no earlier version to go back to; models: {known}")
            self._point(self.folder / name, wanted.folder)
        return wanted

    def retire(self, name: str) -> None:
        """Offer a model no longer. Its versions stay, and servers that have loaded one go on."""
        with self._changing(name):
            (self.folder / name / "current").unlink(missing_ok=True)
            sync(self.folder / name)

    def remove(self, name: str) -> None:
        """Delete a model with all its versions and give its disk space back.

        Raises ModelNotFound for an unknown one, PreparationError where a process has it loaded.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotFound(f"no model is called {name}; `rocmforge models` lists them")
        with self._changing(name):
            loaded = [model.version for model in versions if model.is_loaded()]
            if loaded:
                raise PreparationError(
                    f"{name} is not removed: version {loaded[0]} is loaded; stop its server first"
                )
            (self.folder / name / "current").unlink(missing_ok=True)
            for model in versions:
                self._delete(model.folder)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _named(self, model: str) -> PublishedModel | None:
        name, separator, version = model.partition("@")
        if separator and version.isdecimal() and self.versions(name):
            return self.version(name, int(version))
        return self.current(model)

    def _point(self, home: Path, folder: Path) -> None:
        """Let `current` be a version, by one rename."""
        link = home / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.relative_to(home), target_is_directory=True)
        link.replace(home / "current")
        sync(home)

    def _prune(self, name: str) -> None:
        """Delete old versions, but none that is current or loaded."""
        folders = sorted(
            _folders(self.folder / name / "versions"), key=version_number, reverse=True
        )
        current = (self.folder / name / "current").resolve()
        for folder in folders[self._keep_versions :]:
            if folder.resolve() != current:
                self._delete(folder)

    def _delete(self, folder: Path) -> None:
        """Delete a version that nobody has loaded, and the packed copy of weights only it has."""
        with held_alone(folder) as alone:
            if not alone:
                return
            published = _published("", folder)
            shutil.rmtree(folder, ignore_errors=True)
        if published is not None:
            sha256 = published.manifest.weights.sha256
            if not any(model.manifest.weights.sha256 == sha256 for model in self._all_versions()):
                remove_packed(self._packed_folder, sha256)

    def _all_versions(self) -> Iterator[PublishedModel]:
        for folder in _folders(self.folder):
            yield from self.versions(folder.name)

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Hold the right to change which versions a model has."""
        if not (self.folder / name).is_dir():
            raise ModelNotFound(f"no model is called {name}; `rocmforge models` lists them")
        with locked(self.folder / name / "publish.lock"):
            yield


def _folders(folder: Path) -> list[Path]:
    """Subfolders by name; none where the folder itself does not exist."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return []


def _published(name: str, folder: Path) -> PublishedModel | None:
    """A version; None where this build cannot read its manifest."""
    try:
        return PublishedModel(name, version_number(folder), folder, Manifest.read(folder))
    except (ModelNotFound, PreparationError):
        return None


def version_number(folder: Path) -> int:
    """The version that a published folder is; 0 where it is none."""
    return int(folder.name) if folder.name.isdecimal() else 0
