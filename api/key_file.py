"""Reads the key file, and adds keys to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from api.keys import Key, digest_of, key_of_table, keys_of_file, new_secret, table_of
from runtime.errors import SettingsError
from runtime.files import locked, read_file, write_whole

MAX_FILE_BYTES = 1 << 20
OWNER_ONLY = 0o600


def keys_in(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file; none where it is not there. Raises SettingsError."""
    return keys_of_file(_content(path), str(path))


def add_key(
    path: Path,
    name: str,
    *,
    scopes: Sequence[str] | None = None,
    limits: Mapping[str, int | None],
) -> str:
    """Make a key, add it to the file and return its secret, which is kept nowhere.

    Raises SettingsError for a name that is taken or does not fit, and OSError.
    """
    secret = new_secret()
    table: dict[str, object] = {"sha256": digest_of(secret), **limits}
    if scopes is not None:
        table["scopes"] = list(scopes)
    key = key_of_table(name, table, "the new key")
    with locked(path.with_name(f".{path.name}.lock")):
        content = _content(path)
        if name in {each.name for each in keys_of_file(content, str(path))}:
            raise SettingsError(
                f"{path} has a key {name} already: choose another name, or delete its table first"
            )
        gap = b"\n" if content else b""
        write_whole(path, content + gap + table_of(key).encode())
        path.chmod(OWNER_ONLY)
    return secret


def _content(path: Path) -> bytes:
    """Return the content of a key file, empty where there is none. Raises SettingsError."""
    try:
        return read_file(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be read: {error.strerror}") from None
