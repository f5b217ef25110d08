"""gguf_file -> onnx_model -> published_model, one partition a GGUF file: a face on plain functions.

Between the last two stand the blocking checks; see checks.py.
"""

import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import onnx

from pipelines import pictures
from pipelines.architectures import describe
from pipelines.convert import block_formats, convert
from pipelines.prepare import expect_supported, raise_failed
from pipelines.resources import ModelPreparation
from pipelines.validation import CHECKS
from runtime.errors import ModelNotFound, PreparationError, RocmForgeError
from runtime.files import file_sha256
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.registry import PublishedModel, model_name

# Our version of Dagster is pinned, and a user who starts the UI can do nothing about it.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")

GROUP = "models"
STAGING = "folder"
RUN_OWNER = "run-"

POOL = "preparation"
"""Of steps that use the whole machine; it holds one at a time, see deploy/dagster.yaml."""

PARTITIONS = "gguf_model"
gguf_models = dg.DynamicPartitionsDefinition(name=PARTITIONS)


@dg.asset(partitions_def=gguf_models, group_name=GROUP, kinds={"file"}, pool=POOL)
def gguf_file(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """A GGUF in the folder of incoming files that this build can run."""
    path = preparation.gguf(context.partition_key)
    with failures_shown():
        if not path.is_file():
            raise ModelNotFound(f"{path} does not exist; put the GGUF file there")
        expect_supported(path, preparation.settings)
        file = GGUFFile.open(path)
        spec = describe(file)
        sha256 = file_sha256(path)
    status = path.stat()
    sizes = block_formats(file)
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(path),
            "bytes": status.st_size,
            "modified": dg.MetadataValue.timestamp(status.st_mtime),
            "sha256": sha256,
            "architecture": spec.architecture,
            "parameters": spec.parameters,
            "layers": len(spec.layers),
            "context_length": spec.context_length,
            "vocabulary_size": spec.vocabulary_size,
            "block_formats": block_format_table(file),
            "block_formats_picture": pictures.block_format_shares(sizes),
        },
        data_version=dg.DataVersion(sha256),
    )


@dg.asset(partitions_def=gguf_models, group_name=GROUP, kinds={"onnx"}, deps=[gguf_file], pool=POOL)
def onnx_model(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """The graph over the GGUF's own weights, in a staging folder that nobody serves."""
    path = preparation.gguf(context.partition_key)
    name = model_name(path)
    remove_left_behind(context, preparation, name)
    began = time.perf_counter()
    with failures_shown():
        folder = preparation.registry.new_staging(name, RUN_OWNER + context.run.run_id)
        try:
            manifest = convert(path, folder, name, weights_copy=preparation.settings.weights_copy)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    graph = folder / GRAPH_NAME
    return dg.MaterializeResult(
        metadata={
            STAGING: dg.MetadataValue.path(folder),
            "graph": dg.MetadataValue.path(graph),
            "seconds": rounded(time.perf_counter() - began),
            "graph_bytes": graph.stat().st_size,
            "weights_bytes": manifest.weights.size,
            "weights_sha256": manifest.weights.sha256,
            "cache_bytes_per_token": manifest.page_layout.bytes_per_token(),
            "operators": operator_table(graph),
            "versions": dg.MetadataValue.json(manifest.versions),
        },
        data_version=dg.DataVersion(f"{manifest.graph_sha256[:16]}-{manifest.weights.sha256[:16]}"),
    )


@dg.asset(partitions_def=gguf_models, group_name=GROUP, kinds={"onnx"}, deps=[onnx_model])
def published_model(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """The version that is served from now on; earlier ones stay."""
    with failures_shown():
        staging = staging_folder(context)
        manifest = Manifest.read(staging)
        raise_failed(manifest.name, manifest.checks)
        unchecked = CHECKS.keys() - {check.name for check in manifest.checks}
        if unchecked:
            raise PreparationError(f"{manifest.name} was not checked: {sorted(unchecked)}")
        folder = preparation.registry.publish(staging, manifest)
    return dg.MaterializeResult(
        metadata={
            "name": manifest.name,
            "version": int(folder.name),
            STAGING: dg.MetadataValue.path(folder),
            "weights": dg.MetadataValue.path(manifest.weights_path(folder)),
            "checks": check_table(manifest),
            "kept_versions": version_table(preparation.registry.versions(manifest.name)),
            "serve": dg.MetadataValue.md(f"`rocmforge serve {manifest.name}`"),
            "go_back": dg.MetadataValue.md(
                f"`rocmforge rollback {manifest.name}`, or the job `rollback_model`"
            ),
        },
        data_version=dg.DataVersion(manifest.weights.sha256),
    )


@contextmanager
def failures_shown() -> Iterator[None]:
    """What a user can mend becomes the run's failure in one sentence, and is not tried again."""
    try:
        yield
    except (RocmForgeError, OSError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def staging_folder(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Path:
    """Where the latest onnx_model of this partition stands, be it of this run or an earlier one."""
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=onnx_model.key, asset_partitions=[context.partition_key]),
        limit=1,
    ).records
    event = records[0].asset_materialization if records else None
    folder = Path(str(event.metadata[STAGING].value)) if event is not None else None
    if folder is None or not folder.is_dir():
        raise PreparationError("there is no converted model; materialize onnx_model first")
    return folder


def remove_left_behind(
    context: dg.AssetExecutionContext, preparation: ModelPreparation, name: str
) -> None:
    """Remove what runs that are over have left in the model's staging."""
    for folder in preparation.registry.stagings(name):
        if folder.name.startswith(RUN_OWNER):
            run = context.instance.get_run_by_id(folder.name.removeprefix(RUN_OWNER))
            if run is None or run.is_finished:
                shutil.rmtree(folder, ignore_errors=True)


def block_format_table(file: GGUFFile) -> dg.TableMetadataValue:
    """Tensors, bytes and share of each block format, the largest first."""
    counts, sizes = Counter[str](), Counter[str]()
    for info in file.tensors.values():
        counts[info.format] += 1
        sizes[info.format] += info.size
    total = sizes.total()
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "format": kind,
                    "tensors": counts[kind],
                    "bytes": size,
                    "share": f"{size / total:.1%}",
                }
            )
            for kind, size in sizes.most_common()
        ]
    )


def check_table(manifest: Manifest) -> dg.TableMetadataValue:
    """What each check came to."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"check": each.name, "seconds": each.seconds, "result": each.summary})
            for each in manifest.checks
        ]
    )


def version_table(versions: list[PublishedModel]) -> dg.TableMetadataValue:
    """The versions that are kept, the newest and current one first."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "version": model.version,
                    "published": model.manifest.created_at,
                    "bytes": model.manifest.weights.size,
                    "weights_sha256": model.manifest.weights.sha256[:16],
                }
            )
            for model in versions
        ]
    )


def rounded(value: float) -> float:
    """As many digits as mean something: the UI shows all that a number has."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def operator_table(graph: Path) -> dg.TableMetadataValue:
    """How often each operator stands in a graph."""
    kinds = Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
    return dg.MetadataValue.table(
        [dg.TableRecord({"operator": kind, "count": count}) for kind, count in kinds.most_common()]
    )
