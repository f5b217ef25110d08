"""A model of the command line: how it is loaded, and which version of it."""

from collections.abc import Callable
from pathlib import Path

from api.model_pool import LoadableModel, ModelPool
from api.served_models import ServedModel
from api.takeover import Takeover
from runtime.manifest import Manifest
from runtime.registry import BrokenVersion, Catalog, PublishedModel, is_name, read_version
from runtime.session import memory_bytes
from runtime.settings import Settings
from runtime.storage.address import Address, is_address


class FollowedModel:
    """Loads the version that is current, and takes over the one that becomes so.

    Of a model in a storage it is the version that was pulled last. A file and a named version
    (NAME@2) stay what they are. `load` is called by the thread that
    loads the model, of which there is one at a time, and `look` by the thread that follows all.
    """

    def __init__(
        self,
        given: str,
        folder: Path,
        catalog: Catalog,
        pool: ModelPool,
        start: Callable[[Path], ServedModel],
    ) -> None:
        """given: what the user named, prepared in `folder`. start: makes a model of a folder."""
        self._manifest = Manifest.read(folder)
        self.name = self._manifest.name
        self._folder = folder
        self._catalog = catalog
        self._pool = pool
        self._start = start
        self.address = Address.of(given) if is_address(given) else None
        """Of what is served from a storage."""
        self._follows = self._is_followed(given)
        self._takeover: Takeover | None = None

    def loadable(self, settings: Settings) -> LoadableModel:
        """Return the model as the pool loads it."""
        size = memory_bytes(self._manifest, settings)
        return LoadableModel(self.name, self._manifest, size, self.load)

    def load(self) -> ServedModel:
        """Load the current version. Raises what loading raises."""
        current = self._current()
        folder = current.folder if isinstance(current, PublishedModel) else self._folder
        model = self._start(folder)
        self._takeover = Takeover(self.name, self._current, self, self._start, folder)
        return model

    @property
    def model(self) -> ServedModel | None:
        """The served version, if the model is loaded."""
        return self._pool.find(self.name).served.model

    def replace(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Load another version while the old one is served. Raises what `load` raises."""
        return self._pool.replace(self.name, load)

    def look(self, now: float) -> None:
        """Take over the current version, if the model is loaded; `now` is in seconds."""
        if self._takeover is not None and self.model is not None:
            self._takeover.look(now)

    def _is_followed(self, given: str) -> bool:
        """Whether a user named a model, and no version and no file of it."""
        if self.address is not None:
            return self.address.version is None
        return is_name(given) and self._catalog.current(given) is not None

    def _current(self) -> PublishedModel | BrokenVersion | None:
        if self._follows:
            return self._catalog.pointed_at(self.name)
        return read_version(self.name, self._folder)
