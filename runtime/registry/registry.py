"""Publishes, rolls back and removes models.

A version is made in a staging folder on the same file system and published by one rename, so an
incomplete model is never visible; one rename also removes it. `current` is replaced the same way.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from runtime.errors import BrokenModel, ModelNotFound, PreparationError
from runtime.files import discard, empty_trash, locked, sync
from runtime.manifest import Manifest, held_alone
from runtime.packed_weights import remove_packed
from runtime.registry.catalog import CURRENT, VERSIONS, Catalog, folders_in
from runtime.registry.version import BrokenVersion, PublishedModel, version_number
from runtime.settings import Settings
from runtime.verification import check_files

PREPARE_LOCK, PUBLISH_LOCK = "prepare.lock", "publish.lock"
TRASH = ".removed"
"""Folder below the models folder; no model can have this name."""


class Registry(Catalog):
    """Changes the models folder as well. Immutable, safe for concurrent threads and processes."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._packed_folder = settings.packed_folder
        self._keep_versions = settings.keep_versions

    @contextmanager
    def preparing(self, name: str) -> Iterator[None]:
        """Hold the lock for preparing a model; a second preparation of it waits here."""
        with locked(self._home(name) / PREPARE_LOCK):
            yield

    def new_staging(self, name: str, owner: str) -> Path:
        """Return an empty folder to make a version in, after removing leftovers of `owner`."""
        shutil.rmtree(self._staging(name, owner), ignore_errors=True)
        return self.staging(name, owner)

    def staging(self, name: str, owner: str) -> Path:
        """Return the folder to make a version in, with what `owner` has left there."""
        folder = self._staging(name, owner)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stagings(self, name: str) -> list[Path]:
        """Return the staging folders of a model, in use or left over."""
        return folders_in(self._home(name) / "staging")

    def publish(self, staging: Path, manifest: Manifest, number: int | None = None) -> Path:
        """Make a staging folder the current version of its model; returns its new path.

        number: what the version is called where it comes from; it keeps that unless another one
        has it here. Everything is synced before it becomes visible. Keeps the newest
        `settings.keep_versions` versions, and those that are loaded. Raises PreparationError if a
        check of the manifest failed or a file differs from what was checked.
        """
        name = manifest.name
        home = self._home(name)
        failed = [check for check in manifest.checks if not check.allows_publishing]
        if failed:
            raise PreparationError(f"{name} is not published: {failed[0].summary}")
        try:
            check_files(staging, manifest)
        except BrokenModel as error:
            raise PreparationError(f"{name} is not published: {error}") from None
        versions = home / VERSIONS
        versions.mkdir(parents=True, exist_ok=True)
        manifest.write(staging)
        for file in staging.iterdir():
            sync(file)
        sync(staging)
        with self._changing(name):
            known = [version_number(entry) for entry in versions.iterdir()]
            version = number
            if version is None or version in known:
                version = 1 + max([*known, self._history(name).newest], default=0)
            folder = self._version_folder(name, version)
            staging.rename(folder)
            sync(versions)
            self._point(name, version)
            self._prune(name)
        return folder

    def rollback(self, name: str, version: int | None = None) -> PublishedModel:
        """Make another version current and return it; by default the one that was current before.

        Its files are verified first; by default it is the newest usable one. Running servers load
        it. Brings a retired model back. Raises ModelNotFound if there is none, BrokenModel if the
        named one cannot be loaded.
        """
        with self._changing(name):
            if version is not None:
                wanted = self.version(name, version)
                if not wanted.fits:
                    raise ModelNotFound(f"version {version} of {name} is of another build")
                wanted.verify()
            else:
                wanted = self._before_that_loads(name)
            self._point(name, wanted.version)
        return wanted

    def retire(self, name: str) -> None:
        """Stop offering a model. Its versions stay, and servers that have loaded one continue."""
        with self._changing(name):
            self._clear_current(name)
            sync(self._home(name))

    def remove(self, name: str, version: int | None = None) -> None:
        """Delete a model with all its versions, or one version, and free its disk space.

        Waits for a preparation of the model. Raises ModelNotFound for an unknown one,
        PreparationError if a process has it loaded or the version is the current one.
        """
        home = self._home(name)
        if version is not None:
            self._remove_version(name, version)
            return
        with ExitStack() as held:
            self._lock(name, PREPARE_LOCK, held)
            self._lock(name, PUBLISH_LOCK, held)
            folders = self._version_folders(name)
            models = self._versions(name)
            for folder in folders:
                self._expect_alone(name, folder, held)
            # Last, since the lock files are deleted too.
            discard(home, self.folder / TRASH)
        if not folders:
            raise _unknown(name)
        self._remove_packed(models)

    def _staging(self, name: str, owner: str) -> Path:
        return self._home(name) / "staging" / owner

    def _remove_version(self, name: str, version: int) -> None:
        with self._changing(name), ExitStack() as held:
            models = [model for model in self._versions(name) if model.version == version]
            if not models:
                self.version(name, version)
            (model,) = models
            if self._current_number(name) == version:
                if isinstance(model, PublishedModel):
                    raise PreparationError(
                        f"{name}@{version} is not removed: it is the current version; "
                        f"go to another with `rocmforge rollback {name}` first"
                    )
                self._clear_current(name)
            self._expect_alone(name, model.folder, held)
            discard(model.folder, self.folder / TRASH)
        self._remove_packed(models)

    def _before_that_loads(self, name: str) -> PublishedModel:
        for model in self._before(name, None):
            if model.fits:
                with suppress(BrokenModel):
                    model.verify()
                    return model
        known = ", ".join(self.names()) or "none"
        raise ModelNotFound(f"{name} has no earlier version to go back to; models: {known}")

    def _point(self, name: str, version: int) -> None:
        """Make `current` name a version, by one rename."""
        home = self._home(name)
        current = self._current_number(name)
        self._history(name).until(version).write(home)
        link = home / f"{CURRENT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(VERSIONS, str(version)), target_is_directory=True)
        if current is None:
            self._clear_current(name)  # anything but our link may be a folder
        link.replace(home / CURRENT)
        sync(home)

    def _clear_current(self, name: str) -> None:
        """Delete `current`, whatever it is."""
        current = self._home(name) / CURRENT
        if current.is_dir() and not current.is_symlink():
            discard(current, self.folder / TRASH)
        else:
            current.unlink(missing_ok=True)

    def _prune(self, name: str) -> None:
        """Delete all but the newest good versions, except the current one and loaded ones."""
        current, whole = self._current_number(name), 0
        for model in self._versions(name):
            if whole >= self._keep_versions and model.version != current:
                with held_alone(model.folder) as alone:
                    if alone:
                        discard(model.folder, self.folder / TRASH)
                self._remove_packed([model])
            whole += isinstance(model, PublishedModel)
        empty_trash(self.folder / TRASH)

    def _expect_alone(self, name: str, folder: Path, held: ExitStack) -> None:
        if not held.enter_context(held_alone(folder)):
            raise PreparationError(
                f"{name} is not removed: version {folder.name} is loaded; stop its server first"
            )

    def _remove_packed(self, gone: Sequence[PublishedModel | BrokenVersion]) -> None:
        """Delete the packed copies of weights that only these versions had."""
        left = {
            model.manifest.weights.sha256 for name in self.names() for model in self.versions(name)
        }
        for model in gone:
            if model.manifest is not None and model.manifest.weights.sha256 not in left:
                remove_packed(self._packed_folder, model.manifest.weights.sha256)

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Hold the lock for changing a model's versions."""
        with ExitStack() as held:
            self._lock(name, PUBLISH_LOCK, held)
            yield

    def _lock(self, name: str, lock: str, held: ExitStack) -> None:
        try:
            held.enter_context(locked(self._home(name) / lock, make_folder=False))
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown(name) from None


def _unknown(name: str) -> ModelNotFound:
    return ModelNotFound(f"no model is called {name}; `rocmforge models` lists them")
