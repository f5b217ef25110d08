"""The description of a prepared model, which conversion writes and the runtime reads.

A prepared model is a folder with `manifest.json`, `model.onnx`, the checksums of the GGUF and,
if the file system allows it, the GGUF itself, in one file or several. Everything here is immutable.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from runtime.errors import BrokenModel, InvalidRequest, ModelNotFound
from runtime.files import open_at_once, read_file
from runtime.finite_json import finite_json

MANIFEST_VERSION = 1
MANIFEST_NAME = "manifest.json"
GRAPH_NAME = "model.onnx"
GRAPH_VERSION = "6"
"""Version of the operators in a graph: counts up when graphs must be built again."""

LOGITS = "logits"
"""The check that compares with the exact model."""
DIVERGENCES = ("prefill_divergence", "cached_divergence")
MAX_MANIFEST_BYTES = 1 << 26
NO_MANIFEST = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

StoredAs = Literal["reflink", "copy", "link", "outside"]
"""How the folder keeps the GGUF: as its own file (reflink or copy), as a hard link, or not.

The first two are independent of the user's file."""


class PageLayout(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequence keeps: keys and values in pages, and a state where layers are recurrent.

    The page pool is float16 [layers, pages, 2, kv_heads, page_size, head_dim] over the layers with
    attention; index 0 of the third axis holds keys (after rope), index 1 values. The pool of states
    is float32 [slots, state_values].
    """

    layers: int
    kv_heads: int
    head_dim: int
    state_values: int = 0
    """Values of a sequence's state over all recurrent layers; 0 in a model without such."""

    def bytes_per_token(self) -> int:
        """Bytes of cache per token over all layers."""
        return self.layers * 2 * self.kv_heads * self.head_dim * 2

    def bytes_per_state(self) -> int:
        """Bytes of one sequence's state."""
        return self.state_values * 4


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """What a model gives that embeds or scores texts: one vector of the rows of each."""

    kind: Literal["mean", "cls", "last"]
    """The mean of all rows, the first, or the last."""
    causal: bool
    """Tokens attend to those before them, else to the whole text, which is one step."""
    width: int
    """Values of the vector: the scores of classes in a model that scores."""
    scores: bool
    """Whether the values are scores."""


class WeightsPiece(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the weights; its fields are those of `WeightsFile`."""

    path: str
    linked_name: str | None
    size: int
    sha256: str
    modified_ns: int


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of the GGUF whose blocks the graph reads, in one file or in pieces."""

    path: str
    """Absolute path of the file that was converted; of a model in pieces the first one's."""
    linked_name: str | None
    """Its name inside the prepared folder; None if it stays outside."""
    stored_as: StoredAs | None = None
    """How the folder keeps it; None in manifests of earlier builds."""
    size: int
    """Bytes of all files."""
    sha256: str
    """Of the file; of a model in pieces that of their hashes, each with a line feed."""
    modified_ns: int
    """Of the file or the first piece."""
    pieces: tuple[WeightsPiece, ...] = ()
    """All its files in order, if they are several."""

    @property
    def files(self) -> tuple[WeightsPiece, ...]:
        """All its files in order, one or several."""
        return self.pieces or (
            WeightsPiece(
                path=self.path,
                linked_name=self.linked_name,
                size=self.size,
                sha256=self.sha256,
                modified_ns=self.modified_ns,
            ),
        )


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one validation check."""

    name: str
    passed: bool
    summary: str
    """One sentence; for a failed check, what failed and where."""
    figures: dict[str, float] = {}
    series: dict[str, tuple[float, ...]] = {}
    """Values for a plot, per position or per layer."""
    measured: float | None = None
    """Of a failed check that has a limit: the figure which is above it."""
    is_accepted: bool = False
    """Whether the model may be published although the check failed, as `accept_check` says."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for a number that is not finite, which JSON cannot hold."""
        for name, values in {**{k: (v,) for k, v in self.figures.items()}, **self.series}.items():
            if not all(map(isfinite, values)):
                raise ValueError(f"{name} of the {self.name} check is not finite")

    @property
    def allows_publishing(self) -> bool:
        """Whether it passed, or failed within what was accepted."""
        return self.passed or self.is_accepted


class Origin(msgspec.Struct, frozen=True):
    """Where a version was pulled from, instead of being prepared on this machine."""

    address: str
    """URL of the model in the storage."""
    manifest: str
    """SHA-256 of its manifest there."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Description of one prepared model."""

    manifest_version: int = MANIFEST_VERSION
    name: str
    architecture: str
    parameters: int
    context_length: int
    vocabulary_size: int
    embedding_length: int
    block_formats: dict[str, int]
    """Bytes of weights in each GGML block format."""
    page_layout: PageLayout
    pooled: Pooled | None = None
    """None in a model that generates."""
    weights: WeightsFile
    graph_sha256: str
    versions: dict[str, str]
    """Versions of the tools that made the model: rocmforge, onnx, onnxruntime, gguf."""
    created_at: str
    """ISO 8601, UTC."""
    checks: tuple[CheckResult, ...] = ()
    origin: Origin | None = None
    """None if it was prepared on this machine."""

    @property
    def remedy(self) -> str:
        """The command that makes its files anew."""
        if self.origin is not None:
            return f"rocmforge pull {self.origin.address}"
        return f"rocmforge prepare {self.weights.path}"

    @property
    def quantization(self) -> str:
        """The block format that most bytes of the weights have."""
        formats = self.block_formats
        return max(formats, key=lambda name: formats[name], default="")

    @property
    def divergence(self) -> float | None:
        """Mean KL divergence of its probabilities from the exact model's, nats a token.

        The larger of those of one prefill and of single tokens; None where it was not measured.
        """
        figures = [check.figures for check in self.checks if check.name == LOGITS]
        found = [each[name] for each in figures for name in DIVERGENCES if name in each]
        return max(found, default=None)

    @property
    def accepted_checks(self) -> tuple[CheckResult, ...]:
        """Failed checks in spite of which it was published."""
        return tuple(check for check in self.checks if not check.passed and check.is_accepted)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder. Raises ValueError for a number not finite."""
        encoded = msgspec.json.format(finite_json(self), indent=2)
        (folder / MANIFEST_NAME).write_bytes(encoded + b"\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read `manifest.json` of a prepared folder.

        Raises ModelNotFound if there is no such file, BrokenModel for anything but the manifest of
        a model of this build.
        """
        path = folder / MANIFEST_NAME
        try:
            return cls.parse(read_file(path, MAX_MANIFEST_BYTES), str(path))
        except FileNotFoundError:
            raise ModelNotFound(
                f"{folder} is not a prepared model: it has no {MANIFEST_NAME}"
            ) from None
        except OSError as error:
            raise BrokenModel(f"{path} cannot be read ({error.strerror})") from None

    @classmethod
    def parse(cls, content: bytes, place: str) -> "Manifest":
        """Return the manifest in the content of a file; `place` names that file in errors.

        Raises BrokenModel for anything but the manifest of a model of this build.
        """
        try:
            manifest = msgspec.json.decode(content, type=cls)
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise BrokenModel(f"{place} cannot be read ({error})") from None
        if manifest.manifest_version != MANIFEST_VERSION:
            raise BrokenModel(
                f"{place} has version {manifest.manifest_version}, this build reads "
                f"{MANIFEST_VERSION}"
            )
        for name in (file.linked_name for file in manifest.weights.files):
            if name is not None and Path(name).name != name:
                raise BrokenModel(f"{place} names a GGUF outside its folder")
        return manifest

    def expect_text(self) -> None:
        """Raise InvalidRequest for a model that gives vectors or scores instead of text."""
        if self.pooled is not None:
            gives = "scores" if self.pooled.scores else "vectors"
            route = "/v1/rerank" if self.pooled.scores else "/v1/embeddings"
            raise InvalidRequest(
                f"{self.name} gives {gives} of texts and generates none; take a model that "
                f"does, or send texts to `rocmforge embed` or {route}"
            )

    def weights_path(self, folder: Path) -> Path:
        """Return the GGUF to map: the file in the prepared folder, else the converted file.

        Of a model in pieces it is the first.
        """
        return self.weights_paths(folder)[0]

    def weights_paths(self, folder: Path) -> tuple[Path, ...]:
        """Return all files to map, in order."""
        return tuple(
            Path(file.path) if file.linked_name is None else folder / file.linked_name
            for file in self.weights.files
        )


def hold(folder: Path) -> BinaryIO:
    """Open the manifest of a prepared folder; while it is open no process deletes the folder.

    It has a shared lock, which the system releases when the process ends. Raises ModelNotFound if
    the folder is gone, BrokenModel if its manifest cannot be opened.
    """
    path = folder / MANIFEST_NAME
    try:
        file = open(path, "rb", opener=open_at_once)  # noqa: SIM115 who asked closes it
        # Without locks on this file system nobody deletes it either: see held_alone.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        # The process that held it alone has deleted it meanwhile.
        path.stat()
    except FileNotFoundError:
        raise ModelNotFound(
            f"{folder} is not a prepared model: it has no {MANIFEST_NAME}"
        ) from None
    except OSError as error:
        raise BrokenModel(f"{path} cannot be read ({error.strerror})") from None
    return file


@contextmanager
def held_alone(folder: Path) -> Iterator[bool]:
    """Yield whether no process holds a prepared folder; if so, none can within the block.

    Nobody holds a folder without a manifest; if it cannot be opened, somebody may.
    """
    try:
        descriptor = open_at_once(folder / MANIFEST_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        yield error.errno in NO_MANIFEST
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(descriptor)
