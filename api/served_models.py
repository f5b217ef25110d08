"""The served model and the state of its loading."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from api.errors import NoModel
from runtime.background import start_once
from runtime.embedding_engine import EmbeddingEngine
from runtime.engine import Engine
from runtime.errors import EngineUnavailable
from runtime.grammar import GrammarCompiler
from runtime.manifest import Manifest
from runtime.sampling import BreakerTable
from runtime.statistics import EngineStatistics
from runtime.tokenizer import Tokenizer

log = logging.getLogger("rocmforge.api")


class GpuMemory(Protocol):
    """Memory of the GPU that runs the model."""

    @property
    def free_bytes(self) -> int:
        """Free bytes."""

    @property
    def total_bytes(self) -> int:
        """Size in bytes."""


def _no_gpu() -> GpuMemory | None:
    return None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model: a started engine and its tokenizer. Immutable."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    grammars: GrammarCompiler = field(init=False)
    """Compiles grammars for the tokenizer."""
    breakers: BreakerTable = field(init=False)
    """Finds the tokens of sequence breakers."""
    gpu_memory: Callable[[], GpuMemory | None] = _no_gpu
    """Returns None if the model runs on the CPU."""
    device_reason: str = ""
    """Why it runs on the CPU although a GPU was looked for, or with which provider on a GPU."""
    loaded_at: int = field(default_factory=lambda: int(time.time()))  # noqa: TID251
    """Seconds since 1970."""
    version: int | None = None
    """Its published version, if it has one."""
    chat_template: str | None = None
    """Chat template that replaces those of its file."""
    manifest: Manifest | None = None
    """Description of its prepared folder."""
    embedding: EmbeddingEngine | None = None
    """Computes vectors, of a model that gives these instead of text."""

    def __post_init__(self) -> None:
        """Create what depends on the tokenizer."""
        object.__setattr__(self, "grammars", GrammarCompiler(self.tokenizer))
        object.__setattr__(self, "breakers", BreakerTable(self.tokenizer))

    @property
    def label(self) -> str:
        """Name and version, for people."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def stop(self, drain_seconds: float = 0.0) -> bool:
        """Stop the engines as `Engine.stop` does; vectors that are asked for are computed first."""
        has_stopped = self.engine.stop(drain_seconds)
        if self.embedding is not None:
            self.embedding.stop()
        return has_stopped

    def expect_text(self) -> None:
        """Raise InvalidRequest for a model that generates no text."""
        if self.embedding is not None:
            self.embedding.manifest.expect_text()


class ModelStatus(StrEnum):
    """State of loading."""

    NONE = "none"
    UNLOADED = "unloaded"
    """It was loaded, or may be: a request loads it."""
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _State:
    status: ModelStatus
    model: ServedModel | None = None
    draining: tuple[ServedModel, ...] = ()
    """Replaced models that still have requests."""
    past: tuple[EngineStatistics, ...] = ()
    """The sum of the counts of stopped engines, if there are any."""

    @property
    def loaded(self) -> tuple[ServedModel, ...]:
        """Every model whose engine runs: the draining ones, then the served one."""
        return self.draining if self.model is None else (*self.draining, self.model)


class ServedModels:
    """The served model, and those it replaced until their last request has ended.

    Its state is one immutable value that is replaced whole under a lock; any thread reads it.
    """

    def __init__(self) -> None:
        self._state = _State(ModelStatus.NONE)
        self._changing = threading.Lock()

    @property
    def status(self) -> ModelStatus:
        """State of loading."""
        return self._state.status

    @property
    def model(self) -> ServedModel | None:
        """The served model, once it is ready."""
        return self._state.model

    def load(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Load the first model in the calling thread; exceptions of `load` are raised again."""
        self.begin_loading()
        try:
            model = load()
        except BaseException:
            self._change(status=ModelStatus.FAILED)
            raise
        self._change(status=ModelStatus.READY, model=model)
        return model

    def begin_loading(self) -> None:
        """Show that a model is being loaded."""
        self._change(status=ModelStatus.LOADING, model=None)

    def expect_use(self) -> None:
        """Show that a request will load the model."""
        self._change(status=ModelStatus.UNLOADED)

    def unload(self) -> None:
        """Stop the engine of the model, which no request uses, and let go of it."""
        for model in self._swap(ModelStatus.UNLOADED, None):
            self._drain(model, 0.0)

    def replace(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Load another model in the calling thread while the old one is served; then swap.

        Running requests stay with the old engine, which stops after the last of them. Exceptions
        of `load` are raised again and change nothing.
        """
        model = load()
        for old in self._swap(ModelStatus.READY, model):
            start_once("replaced", partial(self._drain, old, math.inf))
        return model

    def stop(self) -> bool:
        """Stop every engine; running requests fail. Returns False if an engine does not end."""
        return all([model.stop() for model in self._state.loaded])

    def statistics(self) -> list[EngineStatistics]:
        """Return the counts of each engine, and the sum of the stopped ones."""
        state = self._state
        return [*state.past, *(model.engine.statistics() for model in state.loaded)]

    def _swap(self, status: ModelStatus, model: ServedModel | None) -> tuple[ServedModel, ...]:
        """Put a model, or none, in the place of the present one, which is returned, draining."""
        with self._changing:
            state = self._state
            before = () if state.model is None else (state.model,)
            self._state = replace(
                state, status=status, model=model, draining=state.draining + before
            )
        return before

    def _change(self, **changes: Any) -> None:
        with self._changing:
            self._state = replace(self._state, **changes)

    def _drain(self, model: ServedModel, seconds: float) -> None:
        model.stop(drain_seconds=seconds)
        counted = model.engine.statistics().of_the_past()
        with self._changing:
            state = self._state
            past = state.past[0] + counted if state.past else counted
            draining = tuple(each for each in state.draining if each is not model)
            self._state = replace(state, draining=draining, past=(past,))
        log.info("%s is unloaded, its last request has ended", model.label)

    def ready_model(self) -> ServedModel:
        """Return the model for a request.

        Raises EngineUnavailable while it is loading, NoModel if there will be none.
        """
        state = self._state
        if state.model is not None:
            return state.model
        if state.status is ModelStatus.LOADING:
            raise EngineUnavailable("the model is being loaded; try again in a moment")
        if state.status is ModelStatus.UNLOADED:
            raise EngineUnavailable("the model is not loaded now; a request for it loads it")
        if state.status is ModelStatus.FAILED:
            raise NoModel("the model could not be loaded; the server's log says why")
        raise NoModel("the engine is not initialized: start the server with a model")
