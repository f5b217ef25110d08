"""One version of a published model: usable, or broken with the reason."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import BrokenModel, ModelNotFound
from runtime.manifest import GRAPH_VERSION, Manifest, held_alone
from runtime.verification import check_content, check_files

VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One version of a model with all its files. Immutable."""

    name: str
    version: int
    folder: Path
    manifest: Manifest

    @property
    def label(self) -> str:
        """NAME@VERSION."""
        return f"{self.name}@{self.version}"

    @property
    def fits(self) -> bool:
        """Whether this build can run it."""
        return self.manifest.versions.get("graph") == GRAPH_VERSION

    def is_loaded(self) -> bool:
        """Whether a process has it loaded now."""
        with held_alone(self.folder) as alone:
            return not alone

    def is_made_of(self, path: Path) -> bool:
        """Whether it was made from the file at this path, whatever that contains now."""
        return self.manifest.weights.path == str(path.resolve())

    def is_the_file(self, path: Path) -> bool:
        """Whether it was made from the file at this path, or reads that very file."""
        try:
            return self.is_made_of(path) or path.samefile(self.manifest.weights_path(self.folder))
        except OSError:  # one of them is just being deleted
            return False

    def verify(self) -> None:
        """Raise BrokenModel unless its graph and its GGUF are what was published.

        The GGUF is read completely if its time differs from that of the preparation.
        """
        try:
            check_files(self.folder, self.manifest)
            check_content(self.folder, self.manifest)
        except BrokenModel as error:
            raise _broken(self.name, self.version, self.manifest, error) from None


@dataclass(frozen=True, slots=True)
class BrokenVersion:
    """A version that cannot be loaded. Immutable."""

    name: str
    version: int
    folder: Path
    error: BrokenModel
    """The problem and what to do about it."""
    manifest: Manifest | None
    """None if the manifest itself cannot be read."""

    def is_loaded(self) -> bool:
        """Whether a process that loaded it before it broke still has it loaded."""
        with held_alone(self.folder) as alone:
            return not alone


def read_version(name: str, folder: Path) -> PublishedModel | BrokenVersion | None:
    """Return the version in a folder; None if the folder is gone. Raises nothing."""
    version = version_number(folder)
    manifest: Manifest | None = None
    try:
        manifest = Manifest.read(folder)
        check_files(folder, manifest)
    except (ModelNotFound, BrokenModel) as error:
        if not os.path.lexists(folder):
            return None
        broken = _broken(name, version, manifest, error)
        return BrokenVersion(name, version, folder, broken, manifest)
    return PublishedModel(name, version, folder, manifest)


def _broken(name: str, version: int, manifest: Manifest | None, error: Exception) -> BrokenModel:
    remedy = "rocmforge prepare MODEL.gguf" if manifest is None else manifest.remedy
    return BrokenModel(
        f"{name}@{version} cannot be loaded: {error}; `{remedy}` makes it anew, "
        f"`rocmforge remove {name}@{version}` gives its space back"
    )


def version_of(text: str) -> int:
    """Return the version number in a text; 0 if it is none."""
    return int(text) if VERSION.fullmatch(text) else 0


def version_number(folder: Path) -> int:
    """Return the version number of a published folder; 0 if it is none."""
    return version_of(folder.name)
