"""The settings of a TOML file: the names of Settings' fields, and their values."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from runtime.errors import SettingsError

NAME = "rocmforge.toml"


def usual_settings_file() -> Path:
    """Return the file that is read where no other is named; it need not exist."""
    return platformdirs.user_config_path("rocmforge") / NAME


def read_settings_file(path: Path | None, known: Sequence[str]) -> Mapping[str, Any]:
    """Return the settings of a file, by field; of the usual one, if it exists, where it is None.

    known: the names of all settings.
    Raises SettingsError for a file that cannot be read, is no TOML or names what is no setting.
    """
    found = usual_settings_file() if path is None else path
    try:
        text = found.read_bytes().decode()
    except FileNotFoundError:
        if path is None:
            return {}
        raise SettingsError(f"the settings file {found} does not exist") from None
    except (OSError, UnicodeDecodeError) as problem:
        if path is None and isinstance(problem, NotADirectoryError):
            return {}
        raise SettingsError(f"the settings file {found} cannot be read: {problem}") from None
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise SettingsError(f"the settings file {found} is no TOML: {problem}") from None
    for name in values:
        if name not in known:
            import difflib  # as slow to import as all settings

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"{name} in {found} is no setting{hint}")
    return {name: _expanded(value) for name, value in values.items()}


def _expanded(value: Any) -> Any:
    """Return a value with the user's home in the place of ~, which no shell has replaced."""
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return value
