"""GGUF -> a prepared folder: the graph, the manifest and a hard link to the GGUF."""

import hashlib
import os
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gguf
import onnx
import onnxruntime

from pipelines.architectures import ModelSpec, describe
from pipelines.fusion import fuse
from pipelines.graph import DOMAIN, build
from runtime.errors import PreparationError
from runtime.files import file_sha256
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, GRAPH_VERSION, Manifest, PageLayout, WeightsFile


def convert(path: Path, folder: Path, name: str) -> Manifest:
    """Write model.onnx, manifest.json and a link to the GGUF into an existing, empty folder.

    Raises GGUFError or UnsupportedModel before anything is written, and PreparationError when
    the file is being written to meanwhile.
    """
    # A link of a model cache points at a blob; the graph names its weights as the blob is called.
    path = path.resolve()
    file = GGUFFile.open(path)
    spec = describe(file)
    before = path.stat()
    graph = graph_of(spec, file).SerializeToString(deterministic=True)
    (folder / GRAPH_NAME).write_bytes(graph)
    weights = WeightsFile(
        path=str(path),
        linked_name=path.name if _link(path, folder / path.name) else None,
        size=before.st_size,
        sha256=file_sha256(path),
        modified_ns=before.st_mtime_ns,
    )
    after = path.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise PreparationError(f"{path} is still being written; prepare it when it is complete")
    manifest = Manifest(
        name=name,
        architecture=spec.architecture,
        parameters=spec.parameters,
        context_length=spec.context_length,
        vocabulary_size=spec.vocabulary_size,
        embedding_length=spec.embedding_length,
        block_formats=block_formats(file),
        page_layout=page_layout(spec),
        weights=weights,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        versions=versions(),
        created_at=now(),
    )
    manifest.write(folder)
    return manifest


def graph_of(spec: ModelSpec, file: GGUFFile) -> onnx.ModelProto:
    """The graph as it is run: built, then fused."""
    model = build(spec, file)
    fuse(model, DOMAIN)
    return model


def block_formats(file: GGUFFile) -> dict[str, int]:
    """Bytes of weights in each block format, the largest first."""
    sizes: Counter[str] = Counter()
    for info in file.tensors.values():
        sizes[info.format] += info.size
    return dict(sizes.most_common())


def page_layout(spec: ModelSpec) -> PageLayout:
    """Shape of the pool that the model's graph takes."""
    return PageLayout(layers=len(spec.layers), kv_heads=spec.kv_heads, head_dim=spec.head_dim)


def now() -> str:
    """This moment as a manifest has it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what makes a model."""
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


def _link(path: Path, link: Path) -> bool:
    """Hard-link the GGUF; not possible from another file system or for another user's file."""
    try:
        os.link(path, link)
    except OSError:
        return False
    return True
