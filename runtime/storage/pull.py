"""Fetches a version from a storage and publishes it on this machine.

The files go into a staging folder of the registry, which makes a version of it by one rename once
the SHA-256 of each is that of the manifest. What an interrupted pull has left there is gone on
with. Only the child process imports what reaches the storage.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime.checksums import CHECKSUMS_NAME
from runtime.child_process import run_in_child
from runtime.errors import BrokenModel, ChildDied, NameTaken, StorageError
from runtime.manifest import (
    GRAPH_NAME,
    GRAPH_VERSION,
    MANIFEST_NAME,
    Manifest,
    Origin,
)
from runtime.progress import Amount, StepReport, reported, uncounted
from runtime.registry import PublishedModel, Registry
from runtime.settings import Settings
from runtime.source import joint_sha256
from runtime.storage.address import Address
from runtime.storage.layout import MAX_JSON_BYTES, Pointer, read_object, read_pointer
from runtime.storage.staged import fill, with_times
from runtime.storage.stores import Store, open_store

FUNCTION = f"{__name__}:carry_out"
OWNER = "pull"
OUR_FILES = (MANIFEST_NAME, GRAPH_NAME, CHECKSUMS_NAME)

log = logging.getLogger("rocmforge.storage")


class Order(msgspec.Struct, frozen=True):
    """The arguments of `pull`."""

    address: str
    settings: Settings
    replace: bool


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
            lambda step: step.tell(progress, amount),
            progress=StepReport,
            answer=Pulled,
        ).folder
    except ChildDied as error:
        raise StorageError(f"{address} is not pulled: {error}; run the command again") from None


def carry_out(order: Order, report: Callable[[StepReport], None]) -> Pulled:
    """Pull, in a child process."""
    address = Address.of(order.address)
    model = pull(
        open_store(address.folder),
        address,
        order.settings,
        *reported(report),
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
            same = registry.same_as(manifest)
            if same is not None and _is_intact(same):
                return _current(registry, same)
            if not replace:
                _expect_own_name(registry, address)
            staging = registry.staging(address.name, OWNER)
            fill(staging, store, registry, manifest, progress, amount)
            progress("Publishing")
            manifest = with_times(manifest, staging)
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
        if origin is not None and origin.manifest == pointer.manifest and _is_intact(model):
            return _current(registry, model)
    return None


def _is_intact(model: PublishedModel) -> bool:
    """Whether its files are what was published; else they are fetched anew."""
    try:
        model.verify()
    except BrokenModel:
        return False
    return True


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
    weights = manifest.weights
    names = [file.linked_name for file in weights.files]
    if (
        None in names
        or len({*names, *OUR_FILES}) != len(names) + len(OUR_FILES)
        or weights.sha256 != joint_sha256([file.sha256 for file in weights.files])
    ):
        raise StorageError(f"{address} describes its files in a way that this build does not write")
    origin = Origin(f"{address.folder}/{address.name}", pointer.manifest)
    return msgspec.structs.replace(manifest, name=address.name, origin=origin)
