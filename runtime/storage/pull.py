"""Fetches a version from a storage and publishes it on this machine.

The files go into a staging folder of the registry, which makes a version of it by one rename once
the SHA-256 of each is that of the manifest. What an interrupted pull has left there is gone on
with. Only the child process imports what reaches the storage.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime.checksums import CHECKSUMS_NAME, read_through
from runtime.child_process import run_in_child
from runtime.errors import BrokenModel, ChildDied, NameTaken, StorageError
from runtime.manifest import (
    GRAPH_NAME,
    GRAPH_VERSION,
    MANIFEST_NAME,
    Manifest,
    Origin,
    WeightsPiece,
)
from runtime.progress import Amount, uncounted
from runtime.registry import PublishedModel, Registry
from runtime.settings import Settings
from runtime.storage.address import Address
from runtime.storage.files import fetch
from runtime.storage.layout import MAX_JSON_BYTES, Pointer, read_object, read_pointer
from runtime.storage.stores import Store, open_store
from runtime.verification import MAX_GRAPH_BYTES

FUNCTION = f"{__name__}:carry_out"
OWNER = "pull"
PARTIAL = ".partial"
"""Suffix of a file that is not whole, or not compared yet; its name is its SHA-256."""
OUR_FILES = (MANIFEST_NAME, GRAPH_NAME, CHECKSUMS_NAME)
INDEPENDENT = ("reflink", "copy")
READ_ONLY = 0o444

log = logging.getLogger("rocmforge.storage")


class Order(msgspec.Struct, frozen=True):
    """The arguments of `pull`."""

    address: str
    settings: Settings
    replace: bool


class Step(msgspec.Struct, frozen=True):
    """A step that begins, or how many bytes of the current one are done."""

    name: str = ""
    done: int = 0
    total: int = 0


class Pulled(msgspec.Struct, frozen=True):
    """The published folder."""

    folder: Path


def pulled(
    address: Address,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    replace: bool = False,
) -> Path:
    """Return the folder of the version at an address, fetched in a child process.

    progress, amount, replace: as for `pull`. Where the storage is not reached or has something
    damaged, it is the version that was pulled from there before. Raises what `pull` raises.
    """
    try:
        return pull_in_child(address, settings, progress, amount, replace=replace)
    except StorageError as error:
        known = _pulled_before(Registry(settings), address)
        if known is None:
            raise
        log.warning("%s, pulled before, is used: %s", known.label, error)
        return known.folder


def pull_in_child(
    address: Address,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    replace: bool = False,
) -> Path:
    """`pull` in a child process. Raises StorageError, too, where that dies."""
    try:
        return run_in_child(
            FUNCTION,
            Order(str(address), settings, replace),
            lambda step: progress(step.name) if step.name else amount(step.done, step.total),
            progress=Step,
            answer=Pulled,
        ).folder
    except ChildDied as error:
        raise StorageError(f"{address} is not pulled: {error}; run the command again") from None


def carry_out(order: Order, report: Callable[[Step], None]) -> Pulled:
    """Pull, in a child process."""
    address = Address.of(order.address)
    model = pull(
        open_store(address.folder),
        address,
        order.settings,
        lambda step: report(Step(step)),
        lambda done, total: report(Step(done=done, total=total)),
        replace=order.replace,
    )
    return Pulled(model.folder)


def pull(
    store: Store,
    address: Address,
    settings: Settings,
    progress: Callable[[str], None],
    amount: Amount = uncounted,
    *,
    replace: bool = False,
) -> PublishedModel:
    """Make the version at an address the current one of its name here, fetching what is missing.

    replace: whether it may become the next version of a model that came from elsewhere. `progress`
    is called with the name of each step, `amount` with its bytes that are done.

    Raises ModelNotFound if nothing is there, NameTaken, and StorageError for what is damaged, does
    not fit this build, or cannot be fetched or written; nothing has changed then.
    """
    registry = Registry(settings)
    pointer = read_pointer(store, address)
    try:
        if (known := _known(registry, address, pointer)) is not None:
            return known
        manifest = _manifest(store, address, pointer)
        with registry.preparing(address.name):
            if (known := _known(registry, address, pointer)) is not None:  # by whom we awaited
                return known
            if (same := registry.same_as(manifest)) is not None:
                return _current(registry, same)
            if not replace:
                _expect_own_name(registry, address)
            staging = registry.staging(address.name, OWNER)
            _fill(staging, store, registry, manifest, progress, amount)
            progress("Publishing")
            folder = registry.publish(staging, manifest, pointer.version)
            return registry.version(address.name, int(folder.name))
    except OSError as error:
        raise StorageError(
            f"{address} cannot be written to {registry.folder}: {error}; what was fetched is kept"
        ) from None


def _known(registry: Registry, address: Address, pointer: Pointer) -> PublishedModel | None:
    """Return the version that was pulled by this pointer, which is then the current one."""
    for model in registry.versions(address.name):
        origin = model.manifest.origin
        if origin is not None and origin.manifest == pointer.manifest:
            return _current(registry, model)
    return None


def _pulled_before(registry: Registry, address: Address) -> PublishedModel | None:
    """Return the current version of a name, if it was pulled from this address and can be used."""
    known = registry.current(address.name)
    if known is None or not known.fits or not _is_from(known, address):
        return None
    return known if address.version in (None, known.version) else None


def _is_from(model: PublishedModel, address: Address) -> bool:
    origin = model.manifest.origin
    return origin is not None and origin.address == f"{address.folder}/{address.name}"


def _current(registry: Registry, model: PublishedModel) -> PublishedModel:
    current = registry.current(model.name)
    if current is None or current.version != model.version:
        registry.rollback(model.name, model.version)
    return model


def _expect_own_name(registry: Registry, address: Address) -> None:
    """Raise NameTaken if a model of this name was prepared here or pulled from elsewhere."""
    for model in registry.versions(address.name):
        if not _is_from(model, address):
            raise NameTaken(
                f"{model.label} was not pulled from {address.folder}; remove it, or make what is "
                "there its next version (--replace)"
            )


def _manifest(store: Store, address: Address, pointer: Pointer) -> Manifest:
    """Return the manifest of a version as it is to be published here."""
    content = read_object(store, pointer.manifest, MAX_JSON_BYTES)
    try:
        manifest = Manifest.parse(content, str(address))
    except BrokenModel as error:
        raise StorageError(f"{error}; push it again with the program that serves it") from None
    if manifest.versions.get("graph") != GRAPH_VERSION:
        raise StorageError(
            f"{address} was prepared by another build than this one; prepare and push it again, or "
            "install the build that it was prepared with"
        )
    names = [file.linked_name for file in manifest.weights.files]
    if None in names or len({*names, *OUR_FILES}) != len(names) + len(OUR_FILES):
        raise StorageError(f"{address} names its files in a way that this build does not write")
    origin = Origin(f"{address.folder}/{address.name}", pointer.manifest)
    return msgspec.structs.replace(manifest, name=address.name, origin=origin)


def _fill(
    staging: Path,
    store: Store,
    registry: Registry,
    manifest: Manifest,
    progress: Callable[[str], None],
    amount: Amount,
) -> None:
    """Put every file of a version into its staging folder, each compared with its SHA-256."""
    files = manifest.weights.files
    wanted = {file.linked_name for file in files} | {file.sha256 + PARTIAL for file in files}
    for left in staging.iterdir():
        if left.name not in wanted:
            left.unlink()
    _expect_room(staging, manifest)
    sums = [_placed(staging, store, registry, file, progress, amount) for file in files]
    (staging / CHECKSUMS_NAME).write_bytes(b"".join(sums))
    graph = read_object(store, manifest.graph_sha256, MAX_GRAPH_BYTES)
    (staging / GRAPH_NAME).write_bytes(graph)
    for left in staging.glob(f"*{PARTIAL}"):
        left.unlink()


def _placed(
    staging: Path,
    store: Store,
    registry: Registry,
    file: WeightsPiece,
    progress: Callable[[str], None],
    amount: Amount,
) -> bytes:
    """Put one file into the staging folder and return its checksums."""
    assert file.linked_name is not None
    placed, partial = staging / file.linked_name, staging / (file.sha256 + PARTIAL)
    if not placed.exists() and (own := _own_file(registry, file)) is not None:
        os.link(own, placed)
    if placed.exists() and (sums := _checksums(placed, file, progress, amount)) is not None:
        return sums
    progress(f"Fetching {file.linked_name}")
    fetch(store, file, partial, amount)
    os.utime(partial, ns=(file.modified_ns, file.modified_ns))
    partial.chmod(READ_ONLY)
    partial.rename(placed)
    if (sums := _checksums(placed, file, progress, amount)) is None:
        raise StorageError(
            f"{file.linked_name} of {store.url} is damaged: its SHA-256 is not that of its "
            "manifest; push its model again from an intact file"
        )
    return sums


def _checksums(
    placed: Path, file: WeightsPiece, progress: Callable[[str], None], amount: Amount
) -> bytes | None:
    """Return the checksums of a file; None, with the file deleted, if its SHA-256 is another."""
    progress(f"Comparing {file.linked_name}")
    with placed.open("rb") as opened:
        sha256, sums = read_through(opened, amount)
    if sha256 != file.sha256:
        placed.unlink()
        return None
    return sums.encode()


def _own_file(registry: Registry, file: WeightsPiece) -> Path | None:
    """Return a file of another version with this content, which nobody else writes to."""
    for name in registry.names():
        for model in registry.versions(name):
            weights = model.manifest.weights
            if weights.stored_as in INDEPENDENT:
                for known in weights.files:
                    if known.sha256 == file.sha256 and known.linked_name is not None:
                        return model.folder / known.linked_name
    return None


def _expect_room(staging: Path, manifest: Manifest) -> None:
    """Raise StorageError unless the files fit on the disk, beside what is there of them."""
    there = sum(file.stat().st_size for file in staging.iterdir())
    needed, free = manifest.weights.size - there, shutil.disk_usage(staging).free
    if needed > free:
        raise StorageError(
            f"{manifest.name} is not pulled: it takes {needed >> 20} MiB more and {free >> 20} MiB "
            f"are free in {staging}; make room, or name another --home"
        )
