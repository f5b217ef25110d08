"""A running server takes over the version of its model that becomes current."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from api.holder import ModelHolder, ServedModel
from runtime.errors import RocmForgeError
from runtime.registry import Registry

LOOK_SECONDS = 1.0

log = logging.getLogger("rocmforge.takeover")


class Takeover:
    """Looks every second which version of a model is current. Owned by its own thread.

    Another one is loaded beside the one that is served and then held instead of it. One that cannot
    be loaded is told in the log once, and the one before goes on; a retired model goes on too.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        holder: ModelHolder,
        load: Callable[[Path], ServedModel],
    ) -> None:
        """Follow `name`; `load` makes a model of a version's folder."""
        self._name = name
        self._registry = registry
        self._holder = holder
        self._load = load

    def run(self, served: Path, ended: threading.Event) -> None:
        """Follow from the folder that is served until `ended` is set."""
        while not ended.wait(LOOK_SECONDS):
            current = self._registry.current(self._name)
            if current is not None and current.folder != served:
                served = current.folder
                self._take_over(served)

    def _take_over(self, folder: Path) -> None:
        try:
            model = self._holder.replace(lambda: self._load(folder))
        except RocmForgeError as error:
            log.error("version %s of %s is not served: %s", folder.name, self._name, error)
        except Exception:
            log.exception("version %s of %s cannot be loaded", folder.name, self._name)
        else:
            log.info("serving %s from now on", model.label)
