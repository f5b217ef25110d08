"""The mapped weights of a loaded model, watched for changes of their files."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime.checksums import CHUNK, Checksums, read_through
from runtime.errors import PreparationError, WeightsChanged
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest, WeightsPiece
from runtime.mapped_file import MappedFile
from runtime.ops.map_guard import MapGuard
from runtime.packed_weights import PackedArrays, PackedWeights, packed_weights

CHUNKS_AT_ONCE = 8
BYTES_AT_FULL_SPEED = 256 << 20
"""Compared first, before there is much load."""
BYTES_PER_SECOND = 256 << 20
"""Compared in parallel with requests after that: a hundredth of the memory bandwidth."""
NICENESS = 19

log = logging.getLogger("rocmforge.session")


class Weights:
    """The mapped files that a model computes with.

    They are unchanged as long as `check` raises nothing. It detects three things: a file was
    written to or truncated; a map was read beyond the end of its file; the checksums of the mapped
    data, which a thread computes once, are wrong. Any thread may call it; the first damage found is
    kept.
    """

    def __init__(self, mapped: Sequence[MappedFile], manifest: Manifest) -> None:
        """Own the mapped files of a GGUF; use `Weights.open` for a prepared folder."""
        self._name = manifest.name
        self._sha256 = manifest.weights.sha256
        self._mapped = tuple(mapped)
        self._guard = MapGuard()
        for each in mapped:
            self._guard.add(each.data)
        self._packed: PackedWeights | None = None
        self._looking = threading.Lock()
        self._damage: tuple[str, bool] | None = None
        self._closed = threading.Event()
        self._checking: threading.Thread | None = None
        self.gguf = GGUFFile([(each.path, each.mapping) for each in mapped])

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> "Weights":
        """Map the GGUF of a prepared folder, all its files.

        Compares size and time of each with the manifest, and chunks spread over it with their
        checksums; all of it if its time differs. Raises PreparationError if it is not the file
        that was prepared.
        """
        files = manifest.weights.files
        checksums = Checksums.read(folder, [file.size for file in files])
        mapped: list[MappedFile] = []
        try:
            for path, file, sums in zip(
                manifest.weights_paths(folder), files, checksums, strict=True
            ):
                mapped.append(_opened(path, file, sums, manifest.remedy))
        except PreparationError:
            for each in mapped:
                each.close()
            raise
        return cls(mapped, manifest)

    def packed(self, folder: Path, limit: int = 0) -> PackedArrays:
        """Return maps of the packed matrices by name; empty if there can be no copy.

        folder: of the packed copies; limit: their bytes together. Raises WeightsChanged.
        """
        self._packed = packed_weights(self.gguf, self._sha256, folder, self.check, limit=limit)
        if self._packed is None:
            return {}
        self._guard.add(self._packed.file.data)
        return self._packed.arrays

    def watch(self) -> None:
        """Start watching a loaded model.

        Also guards the maps that ONNX Runtime has made, and starts comparing the checksums of all
        data used in computing, in the background.
        """
        for mapped in self._files():
            self._guard.add(mapped.data)
        self._checking = threading.Thread(target=self._compare, name="weights", daemon=True)
        self._checking.start()

    def check(self) -> None:
        """Raise WeightsChanged if the results so far may come from changed weights.

        Costs some microseconds if nothing happened. A file that was written to is read whole.
        """
        if self._closed.is_set() or (
            self._damage is None
            and self._guard.faults == 0
            and all([mapped.is_untouched() for mapped in self._files()])
        ):
            return
        with self._looking:
            for mapped in self._files():
                if self._damage is None and (damage := mapped.damage()) is not None:
                    self._note(mapped, damage)
            if self._damage is None and self._guard.faults:
                self._note(self._mapped[0], "cannot be read any more")
        if self._damage is not None:
            message, reloadable = self._damage
            raise WeightsChanged(message, reloadable=reloadable)

    def wait_until_compared(self) -> None:
        """Wait until all checksums are compared; then `check` reports the result."""
        if self._checking is not None and self._checking is not threading.current_thread():
            self._checking.join()

    def close(self) -> None:
        """Stop watching; the maps are freed with the last reference to them."""
        self._closed.set()
        self.wait_until_compared()
        self._guard.close()
        for mapped in self._files():
            mapped.close()

    def _files(self) -> tuple[MappedFile, ...]:
        return self._mapped if self._packed is None else (*self._mapped, self._packed.file)

    def _note(self, mapped: MappedFile, damage: str) -> None:
        """Keep the first damage found; called under the lock."""
        if self._packed is not None and mapped is self._packed.file:
            gone = self._packed.discard()
            log.error("the packed copy %s %s%s", mapped.path, damage, "" if gone else "; delete it")
            next_load = "is made anew when it is loaded again" if gone else "cannot be deleted"
            self._damage = (
                f"the packed copy of the weights of {self._name} is damaged and {next_load}",
                gone,
            )
        else:
            log.error("the weights %s: the file %s", mapped.path, damage)
            self._damage = (
                f"the weights of {self._name} on disk are no longer those that were loaded; "
                "prepare the model again",
                False,
            )

    def _compare(self) -> None:
        """Compare all data used in computing with its checksums; runs in a thread of its own."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        began, compared = time.monotonic(), 0
        for mapped, chunks in self._parts():
            for at in range(0, len(chunks), CHUNKS_AT_ONCE):
                some = chunks[at : at + CHUNKS_AT_ONCE]
                assert mapped.checksums is not None
                place = mapped.checksums.damaged(mapped.content, some)
                if place is not None:
                    with self._looking:
                        if self._damage is None:
                            self._note(mapped, f"is damaged at byte {place}")
                    return
                compared += len(some) * CHUNK
                due = began + (compared - BYTES_AT_FULL_SPEED) / BYTES_PER_SECOND
                if self._closed.wait(max(0.0, due - time.monotonic())):
                    return

    def _parts(self) -> list[tuple[MappedFile, list[int]]]:
        """Return the files with checksums, and the chunks of each used in computing."""
        packed = self._packed
        parts = []
        if packed is not None and packed.file.checksums is not None:
            parts.append((packed.file, list(range(len(packed.file.checksums.sums)))))
        for piece, mapped in enumerate(self._mapped):
            if mapped.checksums is None:
                continue
            unpacked = {
                chunk
                for info in self.gguf.tensors.values()
                if info.piece == piece and (packed is None or info.name not in packed.arrays)
                for chunk in mapped.checksums.chunks_of(info.offset, info.offset + info.size)
            }
            parts.append((mapped, sorted(unpacked)))
        return parts


def _opened(path: Path, expected: WeightsPiece, sums: Checksums | None, remedy: str) -> MappedFile:
    """Map one file and compare it with the manifest. Raises PreparationError."""
    again = f"run `{remedy}`"
    try:
        mapped = MappedFile.open(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PreparationError(f"the weights {path} cannot be read: {reason}; {again}") from None
    mapped.checksums = sums
    same_time = mapped.state.modified_ns == expected.modified_ns
    if mapped.state.size != expected.size:
        intact = False
    elif sums is not None:
        intact = sums.damaged(mapped.data, sums.spread() if same_time else None) is None
    else:
        intact = same_time or read_through(mapped.file)[0] == expected.sha256
    if not intact:
        mapped.close()
        raise PreparationError(f"{path} has changed since it was prepared; {again}")
    return mapped
