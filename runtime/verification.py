"""Whether the files of a prepared model are what was published: quickly, or to the last byte."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runtime.checksums import CHECKSUMS_NAME, Checksums, read_through
from runtime.errors import BrokenModel, GGUFError
from runtime.files import read_file, write_whole
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, Manifest, WeightsPiece
from runtime.packed_weights import packed_path, packed_weights
from runtime.source import SourceFile

MAX_GRAPH_BYTES = 1 << 28


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
    """The problem, in a few words."""


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BrokenModel if a file of a prepared folder is missing or has another size.

    The graph, some kilobytes, is compared whole; the GGUF by its size.
    """
    if (problem := _graph_problem(folder, manifest)) is not None:
        raise BrokenModel(f"its graph {GRAPH_NAME} {problem}")
    for path, file in _gguf_files(folder, manifest):
        try:
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise BrokenModel(f"its GGUF {path} {_reason(error)}") from None
        if size != file.size:
            raise BrokenModel(f"its GGUF {path} has {size} bytes instead of {file.size}")


def check_content(folder: Path, manifest: Manifest) -> None:
    """Raise BrokenModel if the GGUF of a prepared folder has another content.

    It is read only if its time is another than that of the preparation.
    """
    for path, file in _gguf_files(folder, manifest):
        try:
            found = SourceFile(path)
            changed = (
                found.state.modified_ns != file.modified_ns and found.content.sha256 != file.sha256
            )
        except (OSError, GGUFError) as error:
            raise BrokenModel(f"its GGUF {path} {_reason(error)}") from None
        if changed:
            raise BrokenModel(f"its GGUF {path} has changed since it was prepared")


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
    gguf = GGUFFile.open(*manifest.weights_paths(folder))
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
    path, problem = folder / GRAPH_NAME, _graph_problem(folder, manifest)
    if problem is not None:
        return Finding(path, Condition.DAMAGED, f"it {problem}")
    return Finding(path, Condition.INTACT)


def _gguf_files(folder: Path, manifest: Manifest) -> list[tuple[Path, WeightsPiece]]:
    """Return each file of the GGUF, and what the manifest says of it."""
    return list(zip(manifest.weights_paths(folder), manifest.weights.files, strict=True))


def _weights(folder: Path, manifest: Manifest) -> list[Finding]:
    """Check the files of the GGUF, and the checksums if all are what was prepared."""
    files = _gguf_files(folder, manifest)
    written = Checksums.read(folder, [file.size for _, file in files])
    findings: list[Finding] = []
    sums: list[bytes] = []
    for (path, file), known in zip(files, written, strict=True):
        try:
            with path.open("rb") as opened:
                sha256, found = read_through(opened)
        except OSError as error:
            findings.append(Finding(path, Condition.DAMAGED, error.strerror or str(error)))
            continue
        sums.append(found.encode())
        if sha256 != file.sha256:
            findings.append(Finding(path, Condition.DAMAGED, _difference(known, found, file)))
        else:
            findings.append(Finding(path, Condition.INTACT))
    if any(finding.condition is Condition.DAMAGED for finding in findings):
        return findings
    if sums == [None if known is None else known.encode() for known in written]:
        return findings
    path = folder / CHECKSUMS_NAME
    try:
        write_whole(path, b"".join(sums))
    except OSError as error:
        return [*findings, Finding(path, Condition.DAMAGED, error.strerror or str(error))]
    return [*findings, Finding(path, Condition.REPAIRED)]


def _difference(written: Checksums | None, found: Checksums, expected: WeightsPiece) -> str:
    if found.size != expected.size:
        return f"it has {found.size} bytes instead of {expected.size}"
    if written is None or written.size != found.size:
        return "it is not the file that was prepared"
    chunks = int((written.sums != found.sums).any(axis=1).sum())
    return f"{chunks} of {len(found.sums)} MiB differ from what was prepared"


def _graph_problem(folder: Path, manifest: Manifest) -> str | None:
    """Return what is wrong with the graph, as the end of a sentence; None if nothing is."""
    try:
        graph = read_file(folder / GRAPH_NAME, MAX_GRAPH_BYTES)
    except OSError as error:
        return _reason(error)
    is_same = hashlib.sha256(graph).hexdigest() == manifest.graph_sha256
    return None if is_same else "is not the one that was published"


def _reason(error: Exception) -> str:
    """Return why a file cannot be used, as the end of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
