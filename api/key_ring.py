"""The keys that a server knows: those of its settings, and those of a file that it follows."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from api.key_file import keys_in
from api.keys import Key, digest_of, keys_of_text
from runtime.errors import SettingsError
from runtime.settings import Settings

log = logging.getLogger("rocmforge.api")

_Signature = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class _State:
    signature: _Signature
    """Inode, size and time of the file that was read last; None where there is none."""
    keys: tuple[Key, ...]
    on: bool


class KeyRing:
    """Finds the key of a secret. Any thread may call any method.

    What the file holds is one immutable value, replaced whole under a lock as soon as the file has
    changed. A file that is damaged or gone later changes nothing, so that nobody is let in by it.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the keys. Raises SettingsError where they cannot be read."""
        self._never = settings.ask_for_keys == "never"
        self._path = settings.keys_path
        self._given = keys_of_text(settings.api_keys, "ROCMFORGE_API_KEYS")
        self._reading = threading.Lock()
        signature = _signature(self._path)
        if signature is None and settings.key_file is not None:
            raise SettingsError(
                f"the key file {self._path} is not there; `rocmforge keys NAME` makes one"
            )
        self._state = _State(signature, self._given, bool(self._given))
        if signature is not None:
            self._state = self._read(signature)

    @property
    def on(self) -> bool:
        """Whether requests need a key: there is a key file, even an empty one, or a key."""
        return not self._never and self._current().on

    def find(self, secret: str) -> Key | None:
        """Return the key of a secret; takes the same time for every key there is."""
        digest = digest_of(secret)
        found = [key for key in self._current().keys if key.fits(digest)]
        return found[0] if found else None

    def _current(self) -> _State:
        signature = _signature(self._path)
        if signature == self._state.signature:
            return self._state
        with self._reading:
            before = self._state
            if signature != before.signature:
                try:
                    self._state = self._read(signature)
                except SettingsError as error:
                    self._state = _State(signature, before.keys, before.on)
                    log.error("the keys stay as they were: %s", error)
        return self._state

    def _read(self, signature: _Signature) -> _State:
        if signature is None:
            raise SettingsError(f"the key file {self._path} is gone")
        keys = (*self._given, *keys_in(self._path))
        names = [key.name for key in keys]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SettingsError(
                f"the key {twice} is in {self._path} and in ROCMFORGE_API_KEYS; rename one"
            )
        return _State(signature, keys, True)


def _signature(path: Path) -> _Signature:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
