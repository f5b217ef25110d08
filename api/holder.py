"""The model that is served, and how far its loading is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from api.errors import NoModel
from runtime.engine import Engine
from runtime.errors import EngineUnavailable
from runtime.tokenizer import Tokenizer


class GpuMemory(Protocol):
    """Memory of the GPU that runs the model."""

    @property
    def free_bytes(self) -> int:
        """Bytes that nobody uses."""

    @property
    def total_bytes(self) -> int:
        """Bytes there are."""


def _no_gpu() -> GpuMemory | None:
    return None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model: a started engine and what turns text into its tokens. Immutable."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    gpu_memory: Callable[[], GpuMemory | None] = _no_gpu
    """None where the model runs on the CPU."""
    loaded_at: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""


class ModelStatus(StrEnum):
    """How far the model is."""

    NONE = "none"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _State:
    status: ModelStatus
    model: ServedModel | None = None
    failure: str = ""


class ModelHolder:
    """Holds the model that is served.

    Its state is one immutable value that a loading thread replaces whole; any thread reads it.
    """

    def __init__(self) -> None:
        self._state = _State(ModelStatus.NONE)

    @property
    def status(self) -> ModelStatus:
        """How far the model is."""
        return self._state.status

    @property
    def model(self) -> ServedModel | None:
        """The model, once it is ready."""
        return self._state.model

    def load(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Load in the calling thread and hold the result; what `load` raises is raised again."""
        self._state = _State(ModelStatus.LOADING)
        try:
            model = load()
        except Exception as error:
            self._state = _State(ModelStatus.FAILED, failure=str(error))
            raise
        self._state = _State(ModelStatus.READY, model)
        return model

    def ready_model(self) -> ServedModel:
        """The model for a request that needs one.

        Raises EngineUnavailable while it is loading, NoModel where there will be none.
        """
        state = self._state
        if state.model is not None:
            return state.model
        if state.status is ModelStatus.LOADING:
            raise EngineUnavailable("the model is being loaded; try again in a moment")
        if state.status is ModelStatus.FAILED:
            raise NoModel(f"the model could not be loaded: {state.failure}")
        raise NoModel("the engine is not initialized: start the server with a model")
