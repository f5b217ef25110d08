"""Puts a published version into a storage, and then makes it the one that servers take over."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from runtime.errors import BrokenModel, StorageError
from runtime.files import read_file
from runtime.finite_json import finite_json
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.progress import Amount, uncounted
from runtime.registry import PublishedModel
from runtime.storage.address import Address
from runtime.storage.files import send
from runtime.storage.layout import Pointer, encoded, pointer_key, read_pointer, write_object
from runtime.storage.stores import Store
from runtime.verification import MAX_GRAPH_BYTES

MOST_TRIES = 1000
"""Versions that others may have taken before ours finds a number."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version in a storage. Immutable."""

    address: Address
    """With its version there."""
    sent_bytes: int
    """What was not there before."""


def push(
    store: Store,
    model: PublishedModel,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
) -> Pushed:
    """Put a version into a storage, and make it the one that its name means there.

    It keeps its number, or gets the next free one where another version has that. Files and chunks
    that are there are not sent again, so an interrupted push goes on where it ended; the pointer to
    the version is written last, and until then nobody sees anything of it.

    Raises BrokenModel and PreparationError for files that are not what was published, and
    StorageError.
    """
    model.verify()
    try:
        graph = read_file(model.folder / GRAPH_NAME, MAX_GRAPH_BYTES)
        manifest = stored_form(model.manifest)
        files = zip(manifest.weights.files, model.manifest.weights_paths(model.folder), strict=True)
        sent = 0
        for file, path in files:
            progress(f"Sending {file.path}")
            sent += send(store, file, path, amount)
    except OSError as error:
        raise BrokenModel(f"{model.label} is not pushed: {error}") from None
    progress("Publishing")
    sent += write_object(store, model.manifest.graph_sha256, graph)
    content = finite_json(manifest)
    sha256 = hashlib.sha256(content).hexdigest()
    sent += write_object(store, sha256, content)
    address = Address(store.url, model.name)
    pointer = _numbered(store, address, Pointer(model.version, sha256))
    store.write(pointer_key(model.name), encoded(pointer))
    return Pushed(Address(store.url, model.name, pointer.version), sent)


def stored_form(manifest: Manifest) -> Manifest:
    """Return the manifest as every machine would push it: without paths and times of this one."""
    weights = manifest.weights
    names = [file.path.rpartition("/")[2] for file in weights.files]
    pieces = tuple(
        msgspec.structs.replace(piece, path=name, linked_name=name, modified_ns=0)
        for piece, name in zip(weights.pieces, names, strict=False)
    )
    stored = msgspec.structs.replace(
        weights,
        path=names[0],
        linked_name=names[0],
        stored_as="copy",
        modified_ns=0,
        pieces=pieces,
    )
    return msgspec.structs.replace(manifest, weights=stored, origin=None)


def _numbered(store: Store, address: Address, wanted: Pointer) -> Pointer:
    """Give a version its number, for ever, and return it. Raises StorageError."""
    pointer = wanted
    for _ in range(MOST_TRIES):
        if store.create(pointer_key(address.name, pointer.version), encoded(pointer)):
            return pointer
        numbered = Address(address.folder, address.name, pointer.version)
        if read_pointer(store, numbered).manifest == wanted.manifest:
            return pointer
        pointer = Pointer(pointer.version + 1, wanted.manifest)
    raise StorageError(f"{address} has no free version number; give the model another name")
