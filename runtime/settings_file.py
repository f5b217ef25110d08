"""The settings of a TOML file: the names of Settings' fields, and their values."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from runtime.errors import SettingsError
from runtime.setting_fields import close_name

NAME = "rocmforge.toml"


def read_settings_file(path: Path | None, known: Sequence[str]) -> tuple[Path, Mapping[str, Any]]:
    """Return the path and the settings of a file, by field; None means the user's, if it exists.

    known: the names of all settings that may stand in it.
    Raises SettingsError for a file that cannot be read, is no TOML or names what is no setting.
    """
    found = platformdirs.user_config_path("rocmforge") / NAME if path is None else path
    try:
        text = found.read_bytes().decode()
    except FileNotFoundError:
        if path is None:
            return found, {}
        raise SettingsError(f"the settings file {found} does not exist") from None
    except (OSError, UnicodeDecodeError) as problem:
        if path is None and isinstance(problem, NotADirectoryError):
            return found, {}
        raise SettingsError(f"the settings file {found} cannot be read: {problem}") from None
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise SettingsError(f"the settings file {found} is no TOML: {problem}") from None
    for name in values:
        if name not in known:
            raise SettingsError(f"{name} in {found} is no setting{close_name(name, known)}")
    return found, {name: _expanded(value) for name, value in values.items()}


def _expanded(value: Any) -> Any:
    """Return a value with the user's home in the place of ~, which no shell has replaced."""
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return value
