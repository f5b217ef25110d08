"""Loads the version of a model that becomes current into a running server."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from api.served_models import ServedModel
from runtime.errors import RocmForgeError
from runtime.registry import BrokenVersion, PublishedModel

LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 300.0
"""Between two attempts to load a version: the pause doubles from the first to this."""

log = logging.getLogger("rocmforge.takeover")


class Replaceable(Protocol):
    """A served model that another version may replace."""

    @property
    def model(self) -> ServedModel | None:
        """The served version."""

    def replace(self, load: Callable[[], ServedModel]) -> ServedModel:
        """Load another version while the old one is served; raise what `load` raises."""


@dataclass(frozen=True, slots=True)
class _Retry:
    """A version that could not be loaded, and when to try again."""

    folder: Path
    pause: float
    next_attempt: float


class Takeover:
    """Polls the current version of a model and loads it. Owned by the thread that calls `look`.

    A new version is loaded while the old one is served, and then replaces it. If it cannot be
    loaded, the old one stays and it is tried again at growing intervals; the reason is logged when
    it changes. A retired model stays served. The served version is loaded again if its engine has
    stopped because its weights had changed.
    """

    def __init__(
        self,
        name: str,
        current: Callable[[], PublishedModel | BrokenVersion | None],
        models: Replaceable,
        load: Callable[[Path], ServedModel],
        served: Path,
    ) -> None:
        """Follow `current` of a model called `name`.

        `load` makes a model of a version's folder, `served` is the first one.
        """
        self._name = name
        self._current = current
        self._models = models
        self._load = load
        self._served = served
        self._retry: _Retry | None = None
        self._told: tuple[Path, str] | None = None

    def look(self, now: float) -> None:
        """Load the current version, if it is another; `now` is in seconds of any clock."""
        current = self._current()
        if current is None:
            return
        if isinstance(current, BrokenVersion):
            self._tell(current.folder, str(current.error))
        elif current.folder == self._served and not self._has_stopped():
            self._retry = self._told = None
        elif not self._waits(current.folder, now):
            self._take_over(current.folder, now)

    def _has_stopped(self) -> bool:
        model = self._models.model
        return model is not None and model.engine.weights_changed is not None

    def _waits(self, folder: Path, now: float) -> bool:
        retry = self._retry
        return retry is not None and retry.folder == folder and now < retry.next_attempt

    def _take_over(self, folder: Path, now: float) -> None:
        before = self._retry
        if before is None or before.folder != folder:
            pause = FIRST_PAUSE_SECONDS
        else:
            pause = min(2 * before.pause, MAX_PAUSE_SECONDS)
        self._retry = _Retry(folder, pause, now + pause)
        try:
            model = self._models.replace(lambda: self._load(folder))
        except RocmForgeError as error:
            self._tell(folder, str(error))
        except BaseException as error:  # a panic of Rust code is no Exception
            self._tell(folder, repr(error), error)
        else:
            self._served = folder
            self._retry = self._told = None
            log.info("serving %s from now on", model.label)

    def _tell(self, folder: Path, message: str, error: BaseException | None = None) -> None:
        """Log why a version is not served, once for as long as it stays so."""
        if self._told != (folder, message):
            self._told = folder, message
            log.error(
                "version %s of %s is not served: %s",
                folder.name,
                self._name,
                message,
                exc_info=error,
            )
