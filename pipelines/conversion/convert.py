"""Converts a GGUF to a prepared folder: graph, manifest, the GGUF itself and checksums."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gguf
import onnx
import onnxruntime

from pipelines.conversion.architectures import ModelSpec, describe
from pipelines.conversion.fusion import fuse
from pipelines.conversion.graph import build, page_layout, result_width
from pipelines.conversion.weights_file import store
from runtime.checksums import CHECKSUMS_NAME
from runtime.errors import PreparationError
from runtime.gguf import GGUFFile
from runtime.manifest import (
    GRAPH_NAME,
    GRAPH_VERSION,
    Manifest,
    Pooled,
    StoredAs,
    WeightsFile,
    WeightsPiece,
)
from runtime.settings import WeightsCopy
from runtime.source import Content, Source


def convert(
    source: Source, folder: Path, name: str, *, weights_copy: WeightsCopy = "auto"
) -> Manifest:
    """Write a prepared model into an existing, empty folder.

    weights_copy: as what the GGUF comes into the folder (`store`). Raises GGUFError or
    UnsupportedModel before anything is written, and PreparationError when the file is being written
    to meanwhile or cannot be copied.
    """
    file = source.gguf
    spec = describe(file)
    if len({path.parent for path in file.paths}) > 1:
        raise PreparationError(
            f"the pieces of {source.path} are in several folders; put them into one"
        )
    graph = graph_of(spec, file).SerializeToString(deterministic=True)
    (folder / GRAPH_NAME).write_bytes(graph)
    stored_as = store(source, folder, weights_copy)
    contents = [each.content for each in source.files]
    (folder / CHECKSUMS_NAME).write_bytes(b"".join(content.checksums for content in contents))
    weights = _weights(source, contents, stored_as)
    source.expect_unchanged()
    manifest = Manifest(
        name=name,
        architecture=spec.architecture,
        parameters=spec.parameters,
        context_length=spec.context_length,
        vocabulary_size=spec.vocabulary_size,
        embedding_length=spec.embedding_length,
        block_formats=block_formats(file),
        page_layout=page_layout(spec),
        pooled=pooled(spec),
        weights=weights,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        versions=versions(),
        created_at=now(),
    )
    manifest.write(folder)
    return manifest


def _weights(source: Source, contents: Sequence[Content], stored_as: StoredAs) -> WeightsFile:
    """Return the identity of the GGUF."""
    pieces = tuple(
        WeightsPiece(
            path=str(file.path),
            linked_name=None if stored_as == "outside" else file.path.name,
            size=file.state.size,
            sha256=content.sha256,
            modified_ns=file.state.modified_ns,
        )
        for file, content in zip(source.files, contents, strict=True)
    )
    return WeightsFile(
        path=pieces[0].path,
        linked_name=pieces[0].linked_name,
        stored_as=stored_as,
        size=source.size,
        sha256=source.sha256,
        modified_ns=pieces[0].modified_ns,
        pieces=pieces if len(pieces) > 1 else (),
    )


def graph_of(spec: ModelSpec, file: GGUFFile) -> onnx.ModelProto:
    """Return the graph as it is run: built, then fused."""
    model = build(spec, file)
    fuse(model)
    return model


def pooled(spec: ModelSpec) -> Pooled | None:
    """Return how the model pools rows into vectors; None if it gives logits."""
    if (pooling := spec.pooling) is None:
        return None
    return Pooled(
        kind=pooling.kind,
        causal=pooling.is_causal,
        width=result_width(spec),
        scores=pooling.classifier is not None,
    )


def block_formats(file: GGUFFile) -> dict[str, int]:
    """Return the bytes of weights in each block format, the largest first."""
    sizes: Counter[str] = Counter()
    for info in file.tensors.values():
        sizes[info.format] += info.size
    return dict(sizes.most_common())


def now() -> str:
    """Return the current time as a manifest has it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of the tools that make a model."""
    try:
        rocmforge = version("rocmforge")
    except PackageNotFoundError:  # run from a source tree that is not installed
        rocmforge = "unknown"
    return {
        "rocmforge": rocmforge,
        "graph": GRAPH_VERSION,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "gguf": version(gguf.__name__),
    }
