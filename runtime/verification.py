"""Compares every byte of a prepared model with its checksums."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runtime.checksums import CHECKSUMS_NAME, Checksums, read_through
from runtime.files import write_whole
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.packed_weights import packed_path, packed_weights


class Condition(StrEnum):
    """State of a file."""

    INTACT = "intact"
    REPAIRED = "repaired"
    """It was damaged, and has been made again."""
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """State of one file of a prepared model. Immutable."""

    file: Path
    condition: Condition
    details: str = ""
    """What is wrong, in a few words."""


def verify(folder: Path, packed_folder: Path) -> tuple[Finding, ...]:
    """Read every file of a prepared model, and repair those that are caches.

    The GGUF is the model itself: a damaged one can only be prepared again. Raises ModelNotFound and
    PreparationError if the manifest cannot be read.
    """
    manifest = Manifest.read(folder)
    findings = [_graph(folder, manifest), *_weights(folder, manifest)]
    if all(finding.condition is not Condition.DAMAGED for finding in findings):
        findings += verify_packed(folder, manifest, packed_folder)
    return tuple(findings)


def verify_packed(folder: Path, manifest: Manifest, packed_folder: Path) -> list[Finding]:
    """Compare this machine's packed copy with its checksums; make a damaged one again.

    Returns nothing if there is no copy, which is no damage.
    """
    path = packed_path(packed_folder, manifest.weights.sha256)
    if not path.is_file():
        return []
    gguf = GGUFFile.open(manifest.weights_path(folder))
    packed = packed_weights(gguf, manifest.weights.sha256, packed_folder)
    if packed is None:
        return [Finding(path, Condition.DAMAGED, "it cannot be read or made")]
    place = packed.file.first_damage()
    if place is None:
        return [Finding(path, Condition.INTACT)]
    details = f"at byte {place}"
    if not packed.discard() or packed_weights(gguf, manifest.weights.sha256, packed_folder) is None:
        return [Finding(path, Condition.DAMAGED, f"{details}; delete it")]
    return [Finding(path, Condition.REPAIRED, details)]


def _graph(folder: Path, manifest: Manifest) -> Finding:
    path = folder / GRAPH_NAME
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return Finding(path, Condition.DAMAGED, error.strerror or str(error))
    if sha256 != manifest.graph_sha256:
        return Finding(path, Condition.DAMAGED, "it is not the graph that was validated")
    return Finding(path, Condition.INTACT)


def _weights(folder: Path, manifest: Manifest) -> list[Finding]:
    """Check the GGUF, and its checksums if they are not its own."""
    path = manifest.weights_path(folder)
    written = Checksums.read(folder)
    try:
        sha256, found = read_through(path)
    except OSError as error:
        return [Finding(path, Condition.DAMAGED, error.strerror or str(error))]
    if sha256 != manifest.weights.sha256:
        return [Finding(path, Condition.DAMAGED, _difference(written, found, manifest))]
    if written is not None and written.encode() == found.encode():
        return [Finding(path, Condition.INTACT)]
    sums = folder / CHECKSUMS_NAME
    try:
        write_whole(sums, found.encode())
    except OSError as error:
        return [
            Finding(path, Condition.INTACT),
            Finding(sums, Condition.DAMAGED, error.strerror or str(error)),
        ]
    return [Finding(path, Condition.INTACT), Finding(sums, Condition.REPAIRED)]


def _difference(written: Checksums | None, found: Checksums, manifest: Manifest) -> str:
    if found.size != manifest.weights.size:
        return f"it has {found.size} bytes instead of {manifest.weights.size}"
    if written is None or written.size != found.size:
        return "it is not the file that was prepared"
    chunks = int((written.sums != found.sums).any(axis=1).sum())
    return f"{chunks} of {len(found.sums)} MiB differ from what was prepared"
