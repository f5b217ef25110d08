"""The models of this machine, as GET /models lists them."""

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from api.schemas import DiscoveredModel
from runtime.errors import GGUFError
from runtime.gguf import GGUFFile
from runtime.registry import Catalog, PublishedModel


class Discovery:
    """The published models with the metadata of their GGUFs.

    Any thread may call it: a header is read again only when its file has changed, and two threads
    that read the same one store equal values.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: dict[tuple[Path, int, int], dict[str, Any]] = {}

    def __call__(self) -> Sequence[DiscoveredModel]:
        """Return the models that are there now."""
        return [
            DiscoveredModel(*self._file(model), name=model.name, version=model.version)
            for model in self._catalog.models()
        ]

    def _file(self, model: PublishedModel) -> tuple[str, int, dict[str, Any]]:
        paths = model.manifest.weights_paths(model.folder)
        path = paths[0]
        try:
            status = path.stat()
            size = sum(each.stat().st_size for each in paths)
        except OSError:
            return _shown(path), 0, {}
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._seen:
            try:
                metadata = _finite(GGUFFile.open(*paths).scalars())
            except GGUFError:
                metadata = {}
            self._seen[key] = metadata
        return _shown(path), size, self._seen[key]


def _shown(path: Path) -> str:
    """Return a path as text that JSON can hold."""
    return os.fsencode(path).decode("utf-8", "replace")


def _finite(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a value without numbers that JSON cannot hold."""
    return {
        key: value
        for key, value in metadata.items()
        if not isinstance(value, float) or isfinite(value)
    }
