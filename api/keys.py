"""API keys: their names, what each of them may do, and how they are written down."""

import hmac
import re
import secrets
import tomllib
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.errors import SettingsError

PREFIX = "rf-"
SECRET_BYTES = 32
MIN_SECRET_CHARACTERS = 16
"""Shorter keys could be guessed from their hash."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Limit = Annotated[int, Meta(ge=1)]


class Scope(StrEnum):
    """What a key may be used for."""

    GENERATE = "generate"
    METRICS = "metrics"
    ADMIN = "admin"


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key by the hashes of its secrets. Immutable."""

    name: str
    sha256: tuple[Hash, ...]
    """Hashes in hexadecimal; several while an old secret and a new one are both accepted."""
    scopes: frozenset[Scope] = frozenset({Scope.GENERATE})
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    """Tokens of prompts and answers together."""
    concurrent_requests: Limit | None = None

    def fits(self, digest: str) -> bool:
        """Whether a secret with this hash is one of the key's; takes the same time for all."""
        return any([hmac.compare_digest(each, digest) for each in self.sha256])


def new_secret() -> str:
    """Return a secret that cannot be guessed."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return the hash that a secret is kept as. The secret is random, so no slow hash is needed."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def table_of(key: Key) -> str:
    """Return a key as a table of the key file."""
    lines = [f"[{key.name}]"]
    for name, value in msgspec.to_builtins(key).items():
        if name == "name" or value is None:
            continue
        if isinstance(value, list | tuple | set | frozenset):
            value = sorted(value)
        lines.append(f"{name} = {msgspec.json.encode(value).decode()}")
    return "\n".join(lines) + "\n"


def keys_of_file(content: bytes, source: str) -> tuple[Key, ...]:
    """Return the keys of a key file, which is TOML: a table for each. Raises SettingsError."""
    try:
        tables = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{source} cannot be read as TOML: {error}") from None
    return tuple(key_of_table(name, table, source) for name, table in tables.items())


def keys_of_text(text: str, source: str) -> tuple[Key, ...]:
    """Return the keys of NAME=SECRET,NAME=SECRET, which may do everything. Raises SettingsError."""
    keys = []
    for entry in filter(None, (each.strip() for each in text.split(","))):
        name, _, secret = entry.partition("=")
        if len(secret) < MIN_SECRET_CHARACTERS:
            raise SettingsError(
                f"{source} takes NAME=KEY with commas between, each KEY of at least "
                f"{MIN_SECRET_CHARACTERS} characters; `rocmforge keys NAME` makes one"
            )
        table = {"sha256": digest_of(secret), "scopes": list(Scope)}
        keys.append(key_of_table(name, table, source))
    return tuple(keys)


def key_of_table(name: str, table: Any, source: str) -> Key:
    """Return the key that a table of fields describes. Raises SettingsError."""
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"{source}: a key's name has up to 64 letters, digits, - and _; {name[:80]!r} does not "
            "fit"
        )
    if not isinstance(table, dict):
        raise SettingsError(f"{source}: {name} is no table; write [{name}] above its fields")
    hashes = table.get("sha256")
    if isinstance(hashes, str):
        table = {**table, "sha256": [hashes]}
    try:
        return msgspec.convert({**table, "name": name}, Key)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: the key {name} does not fit: {error}") from None
