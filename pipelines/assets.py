"""The assets gguf_file -> onnx_model -> published_model, one partition for each GGUF file.

The blocking checks run between the last two; see checks.py.
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

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import block_formats, convert
from pipelines.conversion.pictures import block_format_shares
from pipelines.picture_metadata import in_markdown
from pipelines.prepare import expect_own_name, expect_supported, make_current, raise_failed
from pipelines.resources import MACHINE_POOL, ModelPreparation
from pipelines.validation import CHECKS
from runtime.errors import ModelNotFound, PreparationError, RocmForgeError
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.registry import PublishedModel, model_name
from runtime.source import Source

# Our version of Dagster is pinned, and a user of the UI cannot change it.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")

GROUP = "models"
RUN_OWNER = "run-"
PARTITION_TAG = "dagster/partition"
CONVERSION_TAG = "rocmforge/conversion"
"""The id of the run whose converted model a run publishes."""

PARTITIONS = "gguf_model"
gguf_models = dg.DynamicPartitionsDefinition(name=PARTITIONS)


@dg.asset(partitions_def=gguf_models, group_name=GROUP, kinds={"file"}, pool=MACHINE_POOL)
def gguf_file(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """A GGUF in the folder of incoming files that this build can run."""
    with failures_shown(), preparation.machine():
        path = preparation.gguf(partition_key(context))
        source = Source(path)
        expect_supported(source, preparation.settings)
        expect_own_name(preparation.registry, source, model_name(path))
        spec = describe(source.gguf)
        sha256 = source.sha256
    sizes = block_formats(source.gguf)
    modified_ns = max(file.state.modified_ns for file in source.files)
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(path),
            "bytes": source.size,
            "files": len(source.files),
            "modified": dg.MetadataValue.timestamp(modified_ns / 1e9),
            "sha256": sha256,
            "architecture": spec.architecture,
            "parameters": spec.parameters,
            "layers": len(spec.layers),
            "context_length": spec.context_length,
            "vocabulary_size": spec.vocabulary_size,
            "block_formats": block_format_table(source.gguf),
            "block_formats_picture": in_markdown(
                block_format_shares(sizes), "share of each block format"
            ),
        },
        data_version=dg.DataVersion(sha256),
    )


@dg.asset(
    partitions_def=gguf_models,
    group_name=GROUP,
    kinds={"onnx"},
    deps=[gguf_file],
    pool=MACHINE_POOL,
)
def onnx_model(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """The graph over the GGUF's own weights, in a staging folder that is not served yet."""
    began = time.perf_counter()
    with failures_shown(), preparation.machine():
        path = preparation.gguf(partition_key(context))
        name = model_name(path)
        remove_left_behind(context, preparation, name)
        folder = preparation.registry.new_staging(name, RUN_OWNER + context.run.run_id)
        try:
            manifest = convert(
                Source(path), folder, name, weights_copy=preparation.settings.weights_copy
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    graph = folder / GRAPH_NAME
    return dg.MaterializeResult(
        metadata={
            "name": name,
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


@dg.asset(
    partitions_def=gguf_models,
    group_name=GROUP,
    kinds={"onnx"},
    deps=[onnx_model],
    pool=MACHINE_POOL,
)
def published_model(
    context: dg.AssetExecutionContext, preparation: ModelPreparation
) -> dg.MaterializeResult[None]:
    """The version that is served from now on; earlier ones stay."""
    registry = preparation.registry
    with failures_shown():
        staging = staging_folder(context, preparation)
        manifest = Manifest.read(staging)
        raise_failed(manifest.name, manifest.checks)
        unchecked = CHECKS.keys() - {check.name for check in manifest.checks}
        if unchecked:
            raise PreparationError(f"{manifest.name} was not checked: {sorted(unchecked)}")
        same = registry.same_as(manifest)
        if same is None:
            folder = registry.publish(staging, manifest)
        else:
            folder = make_current(registry, same, preparation.settings)
            shutil.rmtree(staging, ignore_errors=True)
    return dg.MaterializeResult(
        metadata={
            "name": manifest.name,
            "version": int(folder.name),
            "is_new": same is None,
            "folder": dg.MetadataValue.path(folder),
            "weights": dg.MetadataValue.path(manifest.weights_path(folder)),
            "checks": check_table(manifest),
            "kept_versions": version_table(registry.versions(manifest.name)),
            "serve": dg.MetadataValue.md(f"`rocmforge serve {manifest.name}`"),
            "go_back": dg.MetadataValue.md(
                f"`rocmforge rollback {manifest.name}`, or the job `rollback_model`"
            ),
        },
        data_version=dg.DataVersion(manifest.weights.sha256),
    )


@contextmanager
def failures_shown() -> Iterator[None]:
    """Errors that a user can fix fail the run with one message, and are not retried."""
    try:
        yield
    except (RocmForgeError, OSError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None


def partition_key(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> str:
    """The partition of a run. Raises ModelNotFound for a run that was started without one."""
    if not context.has_partition_key:
        raise ModelNotFound(
            "the run has no partition; launch it again and choose the model as its partition"
        )
    key: str = context.partition_key
    return key


def published_name(partition_key: str) -> str:
    """The name under which a partition's model is published."""
    return model_name(Path(f"{partition_key}.gguf"))


def staging_folder(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    preparation: ModelPreparation,
) -> Path:
    """Return the folder of the converted model: that of the run's tag, else the latest one.

    Raises PreparationError if there is none, or a later run has published or replaced it.
    """
    key = partition_key(context)
    conversion = context.run.tags.get(CONVERSION_TAG)
    if conversion is None:
        records = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=onnx_model.key, asset_partitions=[key]), limit=1
        ).records
        conversion = records[0].run_id if records else ""
    name = published_name(key)
    for folder in preparation.registry.stagings(name):
        if folder.name == RUN_OWNER + conversion:
            return folder
    raise PreparationError("there is no converted model to publish; materialize onnx_model first")


def remove_left_behind(
    context: dg.AssetExecutionContext, preparation: ModelPreparation, name: str
) -> None:
    """Remove leftovers of earlier runs in the staging, except what is yet to be published."""
    for folder in preparation.registry.stagings(name):
        if not folder.name.startswith(RUN_OWNER):
            continue
        run_id = folder.name.removeprefix(RUN_OWNER)
        publishing = context.instance.get_runs(dg.RunsFilter(tags={CONVERSION_TAG: run_id}))
        runs = [context.instance.get_run_by_id(run_id), *publishing]
        if all(run is None or run.is_finished for run in runs):
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
    """Return the result of each check."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "check": each.name,
                    "outcome": "passed" if each.passed else "accepted",
                    "seconds": each.seconds,
                    "result": each.summary,
                }
            )
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
    """Count the operators in a graph."""
    kinds = Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
    return dg.MetadataValue.table(
        [dg.TableRecord({"operator": kind, "count": count}) for kind, count in kinds.most_common()]
    )
