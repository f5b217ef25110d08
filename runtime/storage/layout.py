"""Which objects a storage holds, and under which keys.

    NAME/current.json        the version that is served
    NAME/versions/3.json     each version, by its number
    .objects/ab/ab12...      manifests, graphs and chunks of GGUF files, by their SHA-256
    .files/ab/ab12...json    the chunks of a GGUF file, by the file's SHA-256

What has a hash in its key never changes, so versions share it. `.objects` is no model's name.
"""

import hashlib
import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from runtime.errors import ModelNotFound, StorageError
from runtime.finite_json import finite_json
from runtime.storage.address import Address
from runtime.storage.stores import ObjectMissing, Store

SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_CHUNK_BYTES = 1 << 28
MAX_JSON_BYTES = 1 << 26

Sha256 = Annotated[str, Meta(pattern=f"^{SHA256.pattern}$")]


class Pointer(msgspec.Struct, frozen=True):
    """Which version a name means. Immutable."""

    version: Annotated[int, Meta(ge=1, lt=10**9)]
    manifest: Sha256
    """Key of its manifest among the objects."""


class Chunks(msgspec.Struct, frozen=True):
    """A file as objects, which follow each other. Immutable."""

    size: Annotated[int, Meta(ge=1)]
    """Bytes of the file."""
    chunk_bytes: Annotated[int, Meta(ge=1, le=MAX_CHUNK_BYTES)]
    """Bytes of each chunk but the last."""
    chunks: tuple[Sha256, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for another number of chunks than the size needs."""
        if len(self.chunks) != -(-self.size // self.chunk_bytes):
            raise ValueError("its number of chunks does not fit its size")

    def bytes_of(self, index: int) -> int:
        """Return the bytes of a chunk."""
        return min(self.chunk_bytes, self.size - index * self.chunk_bytes)


Described = TypeVar("Described", Pointer, Chunks)


def pointer_key(name: str, version: int | None = None) -> str:
    """Return the key of the pointer to a version; without one, to that which is served."""
    return f"{name}/current.json" if version is None else f"{name}/versions/{version}.json"


def object_key(sha256: str) -> str:
    """Return the key of the object with this content. Raises StorageError for no SHA-256."""
    return f".objects/{_hashed(sha256)}"


def chunks_key(sha256: str) -> str:
    """Return the key of the chunks of a file. Raises StorageError for no SHA-256."""
    return f".files/{_hashed(sha256)}.json"


def read_pointer(store: Store, address: Address) -> Pointer:
    """Return the version that an address means. Raises ModelNotFound and StorageError."""
    pointer = _read(store, pointer_key(address.name, address.version), Pointer)
    if pointer is None:
        raise ModelNotFound(
            f"{address} is not there; `rocmforge push {address.name} {address.folder}` puts the "
            "published version there"
        )
    return pointer


def read_chunks(store: Store, sha256: str) -> Chunks | None:
    """Return the chunks of a file; None if it was never pushed. Raises StorageError."""
    return _read(store, chunks_key(sha256), Chunks)


def read_object(store: Store, sha256: str, most_bytes: int) -> bytes:
    """Return the object with this hash. Raises StorageError if it is missing or damaged.

    What does not fit its hash is fetched a second time: a transfer may be at fault.
    """
    key = object_key(sha256)
    for _ in range(2):
        try:
            content = store.read(key, most_bytes)
        except ObjectMissing:
            raise StorageError(
                f"{store.url}/{key} is missing; push its model again: that sends what is not there"
            ) from None
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    raise _damaged(store, key, "its content does not fit its name")


def has_object(store: Store, sha256: str, size: int) -> bool:
    """Whether there is an object under this hash, of this size. Raises StorageError."""
    return store.size(object_key(sha256)) == size


def write_object(store: Store, sha256: str, content: bytes) -> int:
    """Put an object into the storage unless it is there; return the bytes that were sent."""
    if has_object(store, sha256, len(content)):
        return 0
    store.write(object_key(sha256), content)
    return len(content)


def encoded(described: Pointer | Chunks) -> bytes:
    """Return what is stored under a key of JSON."""
    return finite_json(described)


def _read(store: Store, key: str, kind: type[Described]) -> Described | None:
    try:
        return msgspec.json.decode(store.read(key, MAX_JSON_BYTES), type=kind)
    except ObjectMissing:
        return None
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise _damaged(store, key, str(error)) from None


def _damaged(store: Store, key: str, problem: str) -> StorageError:
    return StorageError(
        f"{store.url}/{key} is damaged ({problem}) and not used; delete it and push its model again"
    )


def _hashed(sha256: str) -> str:
    if SHA256.fullmatch(sha256) is None:
        raise StorageError(f"{sha256!a} is no SHA-256; its model was not pushed by this program")
    return f"{sha256[:2]}/{sha256}"
