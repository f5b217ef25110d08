"""Fills the staging folder of a version that is pulled."""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from runtime.checksums import CHECKSUMS_NAME, read_through
from runtime.errors import StorageError
from runtime.manifest import GRAPH_NAME, Manifest, WeightsPiece
from runtime.progress import Amount
from runtime.registry import Registry
from runtime.storage.files import fetch
from runtime.storage.layout import read_object
from runtime.storage.stores import Store
from runtime.verification import MAX_GRAPH_BYTES

PARTIAL = ".partial"
"""Suffix of a file that is not whole; its name is its SHA-256."""
INDEPENDENT = ("reflink", "copy")
READ_ONLY = 0o444


def fill(
    staging: Path,
    store: Store,
    registry: Registry,
    manifest: Manifest,
    progress: Callable[[str], None],
    amount: Amount,
) -> None:
    """Put every file of a version into its staging folder, each compared with its SHA-256.

    What an earlier attempt has left there is gone on with; what another version has is linked.
    Raises StorageError, and OSError where it cannot be written.
    """
    files = manifest.weights.files
    wanted = {file.linked_name for file in files} | {file.sha256 + PARTIAL for file in files}
    for left in staging.iterdir():
        if left.name not in wanted:
            left.unlink()
    for file in files:
        _share(registry, file, staging)
    _expect_room(staging, manifest)
    sums = [_placed(staging, store, file, progress, amount) for file in files]
    (staging / CHECKSUMS_NAME).write_bytes(b"".join(sums))
    graph = read_object(store, manifest.graph_sha256, MAX_GRAPH_BYTES)
    (staging / GRAPH_NAME).write_bytes(graph)
    for left in staging.glob(f"*{PARTIAL}"):
        left.unlink()


def _share(registry: Registry, file: WeightsPiece, staging: Path) -> None:
    """Link the file of another version with this content, which nobody else writes to."""
    placed = _place(staging, file)
    for name in registry.names():
        for model in registry.versions(name):
            weights = model.manifest.weights
            if weights.stored_as in INDEPENDENT and not placed.exists():
                for known in weights.files:
                    if known.sha256 == file.sha256 and known.linked_name is not None:
                        with suppress(OSError):  # it is fetched then
                            os.link(model.folder / known.linked_name, placed)


def _place(staging: Path, file: WeightsPiece) -> Path:
    assert file.linked_name is not None
    return staging / file.linked_name


def _placed(
    staging: Path,
    store: Store,
    file: WeightsPiece,
    progress: Callable[[str], None],
    amount: Amount,
) -> bytes:
    """Put one file into the staging folder, if it is not there, and return its checksums."""
    placed, partial = _place(staging, file), staging / (file.sha256 + PARTIAL)
    if placed.exists() and (sums := _checksums(placed, file, progress, amount)) is not None:
        return sums
    progress(f"Fetching {file.linked_name}")
    fetch(store, file, partial, amount)
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
    if stat.S_IMODE(placed.stat().st_mode) != READ_ONLY:
        placed.chmod(READ_ONLY)
    return sums.encode()


def with_times(manifest: Manifest, staging: Path) -> Manifest:
    """Return the manifest with the times of the files here, by which changes are noticed."""
    weights = manifest.weights
    times = [_place(staging, file).stat().st_mtime_ns for file in weights.files]
    pieces = (
        msgspec.structs.replace(piece, modified_ns=time)
        for piece, time in zip(weights.pieces, times, strict=False)
    )
    weights = msgspec.structs.replace(weights, modified_ns=times[0], pieces=tuple(pieces))
    return msgspec.structs.replace(manifest, weights=weights)


def _expect_room(staging: Path, manifest: Manifest) -> None:
    """Raise StorageError unless the files fit on the disk, beside what is there of them."""
    there = sum(file.stat().st_size for file in staging.iterdir())
    needed, free = manifest.weights.size - there, shutil.disk_usage(staging).free
    if needed > free:
        raise StorageError(
            f"{manifest.name} is not pulled: it takes {needed >> 20} MiB more and {free >> 20} MiB "
            f"are free in {staging}; make room, or name another --home"
        )
