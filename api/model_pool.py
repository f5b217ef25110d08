"""The models of a server by name: loaded when a request asks for one, unloaded when it may go."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from api.errors import ModelInUse, NoModel, UnknownModel
from api.model_memory import ModelMemory
from api.served_models import ModelStatus, ServedModel, ServedModels
from runtime.errors import EngineUnavailable, RocmForgeError, SettingsError
from runtime.manifest import Manifest
from runtime.statistics import EngineStatistics

LOOK_SECONDS = 0.2
"""Interval at which a request that waits for its model looks whether its client does too."""
MAX_SHOWN = 100
"""Characters of an unknown model's name in an error message."""
LATEST = ":latest"
"""What Ollama's clients add to a name without a tag."""

log = logging.getLogger("rocmforge.api")


def _nothing() -> None:
    """Do nothing."""


def aliases_of(text: str) -> dict[str, str]:
    """Return the aliases of NAME=MODEL,NAME=MODEL. Raises SettingsError."""
    aliases: dict[str, str] = {}
    for entry in filter(None, (each.strip() for each in text.split(","))):
        alias, _, name = (each.strip() for each in entry.partition("="))
        if not (alias and name) or alias in aliases:
            raise SettingsError(
                f"--alias takes NAME=MODEL, such as gpt-4o=qwen3, each NAME once; not {entry}"
            )
        aliases[alias] = name
    return aliases


@dataclass(frozen=True, slots=True)
class LoadableModel:
    """A model that a server may load. Immutable."""

    name: str
    manifest: Manifest
    size: int
    """Bytes in memory once it is loaded: weights and KV cache."""
    load: Callable[[], ServedModel]
    """Loads its current version, and starts its engine."""


@dataclass(slots=True, eq=False)
class PooledModel:
    """A name of the pool. The pool's lock guards what changes; `served` guards itself."""

    served: ServedModels = field(default_factory=ServedModels)
    published: LoadableModel | None = None
    """None for a model that is loaded at the start, and stays."""
    aliases: tuple[str, ...] = ()
    keep_alive: float = math.inf
    """Seconds that it stays loaded after its last request."""
    last_used: float = 0.0
    """On the clock of the pool."""

    @property
    def name(self) -> str | None:
        """Its name, once it is known."""
        if self.published is not None:
            return self.published.name
        model = self.served.model
        return None if model is None else model.name

    @property
    def manifest(self) -> Manifest | None:
        """Description of the version that is loaded, or of the one that would be."""
        if (model := self.served.model) is not None:
            return model.manifest
        return None if self.published is None else self.published.manifest

    @property
    def accepted_checks(self) -> dict[str, float | None]:
        """The failed checks in spite of which it was published, with what they measured."""
        checks = () if self.manifest is None else self.manifest.accepted_checks
        return {check.name: check.measured for check in checks}


class ModelPool:
    """Gives out models by name, and owns their engines. Any thread may call any method.

    One lock guards which are loaded and in use. A model is loaded outside of it, by the thread of
    the first request for it. Where the budget has no room because of running requests, requests
    wait in the order in which they came, so that no model keeps another one out.
    """

    def __init__(
        self,
        default: ServedModels,
        draining: threading.Event,
        *,
        budget: float = math.inf,
        keep_alive: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """default: the model of a request that names none. budget: bytes of all loaded models.

        draining: set once there is no new work. keep_alive: seconds that an unused model stays.
        """
        self._default = PooledModel(default)
        self._draining = draining
        self._keep_alive = keep_alive
        self._clock = clock
        self._models: dict[str, PooledModel] = {}
        self._aliases: dict[str, str] = {}
        self._memory = ModelMemory(budget)
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        """Places of the requests that wait for room, and of those behind them."""

    def publish(
        self, models: Iterable[LoadableModel], aliases: Mapping[str, str] | None = None
    ) -> None:
        """Name the models that are loaded on use; the first is the default, which is loaded now.

        aliases: further names, with the name of the model that each means. Raises SettingsError
        for one of no model, or one that is a model's own.
        """
        models, aliases = list(models), dict(aliases or {})
        named = {model.name: model for model in models}
        if len(named) < len(models):
            raise SettingsError("a model is named twice; a server serves one version of each")
        for alias, name in aliases.items():
            if name not in named or alias in named:
                raise SettingsError(
                    f"--alias {alias}={name} does not fit: it takes a new name and one of "
                    f"{', '.join(named)}"
                )
        with self._changed:
            for name, model in named.items():
                entry = PooledModel() if self._models else self._default
                entry.published, entry.keep_alive = model, self._keep_alive
                entry.last_used = self._clock()
                entry.aliases = tuple(alias for alias, of in aliases.items() if of == name)
                if entry is not self._default:
                    entry.served.expect_use()
                else:
                    self._memory.add(name, model.size)
                self._models[name] = entry
            self._aliases = aliases

    @property
    def models(self) -> list[PooledModel]:
        """Every model, the default first."""
        return list(self._models.values()) or [self._default]

    def find(self, name: str | None) -> PooledModel:
        """Return the model of a name or an alias; the default without one.

        Raises UnknownModel, or what says why there is no model at all.
        """
        if not name:
            return self._default
        for given in (name, name.removesuffix(LATEST)):
            model = self._models.get(self._aliases.get(given, given))
            if model is not None or given == self._default.name:
                return model or self._default
        self.expect_any()
        raise UnknownModel(self._unknown(name))

    def expect_any(self) -> None:
        """Raise EngineUnavailable or NoModel unless there is a model, loaded or not."""
        if self._default.published is None:
            self._default.served.ready_model()

    def lease(
        self,
        name: str | None = None,
        *,
        keep_alive: float | None = None,
        watch: Callable[[], None] = _nothing,
    ) -> "Lease":
        """Return a model that stays loaded until the lease is released; it is loaded if need be.

        keep_alive: seconds that it stays loaded afterwards, if that is to change. watch: called
        while this waits, and may raise. Raises UnknownModel, NoModel for one that cannot be
        loaded, EngineUnavailable while the server starts or ends.
        """
        entry = self.find(name)
        self._expect_open()
        if entry.published is None:
            entry.served.ready_model()
            return Lease(entry, _nothing)
        published, place = entry.published, object()
        with self._changed:
            try:
                while (loads := self._taken(entry, published, place)) is None:
                    self._changed.wait(LOOK_SECONDS)
                    watch()
                    self._expect_open()
            finally:
                if place in self._waiting:
                    self._waiting.remove(place)
                self._changed.notify_all()
        if loads:
            self._load(entry, published)
        if keep_alive is not None:
            entry.keep_alive = keep_alive
        return Lease(entry, lambda: self._end(entry, published.name))

    def lease_loaded(self, name: str) -> "Lease | None":
        """Return a lease of a model that is loaded; None if it is not."""
        entry = self.find(name)
        with self._changed:
            published = entry.published
            if published is None or entry.served.status is not ModelStatus.READY:
                return None
            self._memory.begin(published.name)
        return Lease(entry, lambda: self._end(entry, published.name))

    def replace(self, name: str, load: Callable[[], ServedModel]) -> ServedModel:
        """Replace a loaded model by another version, as ServedModels.replace does.

        Both are in memory until the last request of the old one has ended. Raises EngineUnavailable
        for a model that is not loaded, and what `load` raises.
        """
        if (lease := self.lease_loaded(name)) is None:
            raise EngineUnavailable(f"{name} was unloaded; a request loads its current version")
        with lease:
            return self.find(name).served.replace(load)

    def unload(self, name: str) -> bool:
        """Unload a model; return whether it was loaded.

        Raises UnknownModel, and ModelInUse while requests run on it.
        """
        entry = self.find(name)
        with self._changed:
            if entry.published is None or self._memory.in_use(entry.published.name):
                raise ModelInUse(
                    f"the model {entry.name} is in use; unload it when its requests have ended"
                )
            if entry.published.name not in self._memory.loaded:
                return False
            self._unload(entry, entry.published)
            return True

    def keep(self, name: str | None, seconds: float) -> None:
        """Set how long a model stays loaded after its last request. Raises UnknownModel."""
        self.find(name).keep_alive = seconds
        self.unload_idle()

    def unload_idle(self) -> None:
        """Unload the models that nobody has used for as long as they are kept."""
        with self._changed:
            now = self._clock()
            for entry in self.models:
                published = entry.published
                if (
                    published is not None
                    and published.name in self._memory.loaded
                    and not self._memory.in_use(published.name)
                    and now - entry.last_used >= entry.keep_alive
                ):
                    self._unload(entry, published)

    def expires_in(self, entry: PooledModel) -> float:
        """Return the seconds after which a model is unloaded if nobody uses it."""
        return max(0.0, entry.last_used + entry.keep_alive - self._clock())

    def stop(self) -> bool:
        """Stop every engine; running requests fail. Returns False if an engine does not end."""
        return all([entry.served.stop() for entry in self.models])

    def statistics(self) -> list[EngineStatistics]:
        """Return the counts of each engine, and the sums of the stopped ones."""
        return [each for entry in self.models for each in entry.served.statistics()]

    def _taken(self, entry: PooledModel, published: LoadableModel, place: object) -> bool | None:
        """Begin a request if that is possible now; return whether its model is to be loaded.

        None if it has to wait. The lock is held.
        """
        if entry.served.status is ModelStatus.LOADING:
            if place in self._waiting:
                self._waiting.remove(place)  # it waits for no room any more
            return None
        if place not in self._waiting:
            self._waiting.append(place)
        if self._waiting[0] is not place:
            return None
        is_loaded = published.name in self._memory.loaded
        if not is_loaded:
            victims = self._memory.victims(published.size)
            if victims is None:
                return None
            for name in victims:
                victim = self._models[name]
                assert victim.published is not None
                self._unload(victim, victim.published)
            self._memory.add(published.name, published.size)
            entry.served.begin_loading()
        self._memory.begin(published.name)
        return not is_loaded

    def _load(self, entry: PooledModel, published: LoadableModel) -> None:
        """Load a model in this thread, which has begun a request on it. Raises NoModel."""
        log.info("loading %s", published.name)
        try:
            model = entry.served.load(published.load)
        except BaseException as error:
            with self._changed:
                self._memory.end(published.name)
                self._memory.remove(published.name)
                self._changed.notify_all()
            if not isinstance(error, RocmForgeError):
                raise
            raise NoModel(f"the model {published.name} cannot be loaded: {error}") from error
        with self._changed:
            self._changed.notify_all()
        if self._draining.is_set():
            model.stop()
        log.info("ready: %s", model.label)

    def _unload(self, entry: PooledModel, published: LoadableModel) -> None:
        """Stop the engine of a model that nobody uses. The lock is held."""
        self._memory.remove(published.name)
        entry.served.unload()
        entry.keep_alive = self._keep_alive
        log.info("unloaded %s", published.name)

    def _end(self, entry: PooledModel, name: str) -> None:
        with self._changed:
            entry.last_used = self._clock()
            self._memory.end(name)
            self._changed.notify_all()

    def _expect_open(self) -> None:
        if self._draining.is_set():
            raise EngineUnavailable("the server is shutting down and takes no new requests")

    def _unknown(self, name: str) -> str:
        shown = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
        names = [
            each if not entry.aliases else f"{each} ({', '.join(entry.aliases)})"
            for entry in self.models
            if (each := entry.name) is not None
        ]
        which = "the one that is" if len(names) == 1 else "those that are"
        return f"the model {shown} is not served here; {which}: {', '.join(names)}"


class Lease:
    """A model that stays loaded until `release`. Owned by one thread at a time."""

    def __init__(self, entry: PooledModel, release: Callable[[], None]) -> None:
        self._entry = entry
        self._release = release
        self._released = False

    @property
    def model(self) -> ServedModel:
        """The newest version of the model. Raises NoModel or EngineUnavailable without one."""
        return self._entry.served.ready_model()

    def release(self) -> None:
        """Let the model go, once."""
        if not self._released:
            self._released = True
            self._release()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
